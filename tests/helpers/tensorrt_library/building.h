/* The builder's half of the stand-in library: networks, the parser, configurations and profiles. Part of library.c. */
typedef struct { Text name; Dims dims[3]; bool has[3]; } Range;
typedef struct { Object object; int ranges; Range range[MANY]; } Profile;
typedef struct { Object object; Profile* profiles[MANY]; int count; } Builder;
typedef struct Tensor { Object object; const TensorInfo* info; } Tensor;
typedef struct Layer { Object object; const LayerInfo* info; struct Tensor* output; } Layer;
typedef struct { Object object; Builder* builder; uint32_t flags; Text name; const Network* network; Tensor** tensors; Layer** layers; } Definition;
typedef struct { Object object; ParserFault fault; } ParserError;
typedef struct { Object object; Definition* network; ParserError* error; uint32_t flags; bool used; } Parser;
typedef struct {
    Object object;
    uint64_t flags;
    int32_t level, compatibility, verbosity, profiles, streams, averaging;
    size_t pool[16];
    Profile* profile[MANY];
    void *cache, *monitor;
} Config;

static void* VBuilder_createBuilderConfig(void* this)
{
    SELF(Builder, BUILDER);
    Config* config = make(sizeof *config, CONFIG, self, self->object.logger);
    config->level = 3;
    return config;
}
static void* VBuilder_createNetworkV2(void* this, uint32_t flags)
{
    SELF(Builder, BUILDER);
    if (!(flags & (1u << host.typed_flag))) {
        refuse(self->object.logger, "createNetworkV2: this stand-in takes strongly typed networks alone, not flags %u", flags);
        return NULL;
    }
    Definition* network = make(sizeof *network, NETWORK, self, self->object.logger);
    network->builder = self;
    network->flags = flags;
    network->name = "unnamed";
    return network;
}
static void* VBuilder_createOptimizationProfile(void* this)
{
    SELF(Builder, BUILDER);
    if (self->count == MANY) die("too many profiles for it", __func__);
    return self->profiles[self->count++] = make(sizeof(Profile), PROFILE, self, self->object.logger);
}
static void* VBuilder_getLogger(void* this) { SELF(Builder, BUILDER); return self->object.logger; }
static void bury_profiles(Builder* builder)
{
    for (int i = 0; i < builder->count; ++i) bury(&builder->profiles[i]->object);
}

/* Profiles. */
static Range* range_of(Profile* profile, Text name, bool make_it)
{
    for (int i = 0; i < profile->ranges; ++i)
        if (strcmp(profile->range[i].name, name) == 0) return &profile->range[i];
    if (!make_it) return NULL;
    if (profile->ranges == MANY) die("too many inputs for it", __func__);
    profile->range[profile->ranges].name = copy_of(name);
    return &profile->range[profile->ranges++];
}
static bool VOptimizationProfile_setDimensions(void* this, Text name, int32_t selector, const Dims* dims)
{
    SELF(Profile, PROFILE);
    if (selector < 0 || selector > 2 || dims->rank < 0) return false;
    Range* range = range_of(self, name, true);
    if (range->has[0] && range->dims[0].rank != dims->rank) return false;
    range->dims[selector] = *dims;
    range->has[selector] = true;
    return true;
}
static Dims VOptimizationProfile_getDimensions(void* this, Text name, int32_t selector)
{
    SELF(Profile, PROFILE);
    const Range* range = range_of(self, name, false);
    return range != NULL && range->has[selector] ? range->dims[selector] : nothing.dims;
}
static bool VOptimizationProfile_isValid(void* this)
{
    SELF(Profile, PROFILE);
    for (int i = 0; i < self->ranges; ++i) {
        const Range* range = &self->range[i];
        if (!(range->has[0] && range->has[1] && range->has[2])) return false;
        for (int axis = 0; axis < range->dims[0].rank; ++axis)
            if (range->dims[0].extent[axis] > range->dims[1].extent[axis] || range->dims[1].extent[axis] > range->dims[2].extent[axis])
                return false;
    }
    return true;
}
static int32_t VOptimizationProfile_getNbShapeValues(void* this, Text name) { SELF(Profile, PROFILE); (void)self; (void)name; return -1; }
static bool VOptimizationProfile_setExtraMemoryTarget(void* this, float target) { SELF(Profile, PROFILE); (void)self; return target >= 0; }
static float VOptimizationProfile_getExtraMemoryTarget(void* this) { SELF(Profile, PROFILE); (void)self; return 1.0f; }

/* Networks as the parser fills them. */
static int32_t count_of(const Definition* self, int32_t mode)
{
    int32_t count = 0;
    for (int i = 0; self->network != NULL && i < self->network->tensors; ++i) count += self->network->tensor[i].mode == mode;
    return count;
}
static void* tensor_at(const Definition* self, int32_t mode, int32_t number)
{
    for (int i = 0; self->network != NULL && i < self->network->tensors; ++i)
        if (self->network->tensor[i].mode == mode && number-- == 0) return self->tensors[i];
    return NULL;
}
static int32_t VNetworkDefinition_getNbLayers(void* this) { SELF(Definition, NETWORK); return self->network == NULL ? 0 : self->network->layers; }
static void* VNetworkDefinition_getLayer(void* this, int32_t at)
{
    SELF(Definition, NETWORK);
    return self->network != NULL && at >= 0 && at < self->network->layers ? self->layers[at] : NULL;
}
static int32_t VNetworkDefinition_getNbInputs(void* this) { SELF(Definition, NETWORK); return count_of(self, host.input_mode); }
static void* VNetworkDefinition_getInput(void* this, int32_t at) { SELF(Definition, NETWORK); return tensor_at(self, host.input_mode, at); }
static int32_t VNetworkDefinition_getNbOutputs(void* this) { SELF(Definition, NETWORK); return count_of(self, host.output_mode); }
static void* VNetworkDefinition_getOutput(void* this, int32_t at) { SELF(Definition, NETWORK); return tensor_at(self, host.output_mode, at); }
static void VNetworkDefinition_setName(void* this, Text name) { SELF(Definition, NETWORK); self->name = copy_of(name); }
static Text VNetworkDefinition_getName(void* this) { SELF(Definition, NETWORK); return self->name; }
static uint32_t VNetworkDefinition_getFlags(void* this) { SELF(Definition, NETWORK); return self->flags; }
static bool VNetworkDefinition_getFlag(void* this, int32_t flag) { SELF(Definition, NETWORK); return self->flags >> flag & 1; }
static void* VNetworkDefinition_getBuilder(void* this) { SELF(Definition, NETWORK); return self->builder; }
static void* face_INetworkDefinition_getBuilder(void* face) { FACE(Definition, NETWORK, self, face); return self->builder; }
static void fill(Definition* self, const Network* network)
{
    self->network = network;
    self->tensors = calloc(network->tensors + 1, sizeof *self->tensors);
    self->layers = calloc(network->layers + 1, sizeof *self->layers);
    for (int i = 0; i < network->tensors; ++i) {
        self->tensors[i] = make(sizeof(Tensor), TENSOR, self, NULL);
        self->tensors[i]->info = &network->tensor[i];
    }
    for (int i = 0; i < network->layers; ++i) {
        self->layers[i] = make(sizeof(Layer), LAYER, self, NULL);
        self->layers[i]->info = &network->layer[i];
        self->layers[i]->output = self->tensors[network->layer[i].output];
    }
}
static void bury_contents(Definition* self)
{
    for (int i = 0; self->network != NULL && i < self->network->tensors; ++i) bury(&self->tensors[i]->object);
    for (int i = 0; self->network != NULL && i < self->network->layers; ++i) bury(&self->layers[i]->object);
}
static Text VTensor_getName(void* this) { SELF(Tensor, TENSOR); return self->info->name; }
static Dims VTensor_getDimensions(void* this) { SELF(Tensor, TENSOR); return self->info->dims; }
static int32_t VTensor_getType(void* this) { SELF(Tensor, TENSOR); return self->info->type; }
static bool VTensor_isNetworkInput(void* this) { SELF(Tensor, TENSOR); return self->info->mode == host.input_mode; }
static bool VTensor_isNetworkOutput(void* this) { SELF(Tensor, TENSOR); return self->info->mode == host.output_mode; }
static bool VTensor_isShapeTensor(void* this) { SELF(Tensor, TENSOR); (void)self; return false; }
static bool VTensor_isExecutionTensor(void* this) { SELF(Tensor, TENSOR); (void)self; return true; }
static int32_t VTensor_getLocation(void* this) { SELF(Tensor, TENSOR); return self->info->location; }
static Text VTensor_getDimensionName(void* this, int32_t axis) { SELF(Tensor, TENSOR); return axis >= 0 && axis < 8 ? self->info->axes[axis] : NULL; }
static int32_t VLayer_getType(void* this) { SELF(Layer, LAYER); return self->info->type; }
static Text VLayer_getName(void* this) { SELF(Layer, LAYER); return self->info->name; }
static int32_t VLayer_getNbInputs(void* this) { SELF(Layer, LAYER); (void)self; return 0; }
static int32_t VLayer_getNbOutputs(void* this) { SELF(Layer, LAYER); (void)self; return 1; }
static void* VLayer_getOutput(void* this, int32_t at) { SELF(Layer, LAYER); return at == 0 ? self->output : NULL; }
static int32_t VLayer_getOutputType(void* this, int32_t at) { SELF(Layer, LAYER); (void)at; return self->output->info->type; }

/* The parser. It has no implementation apart, so `this` is the face. */
#define PARSER_SELF(Type, KIND) FACE(Type, KIND, self, this)
static bool parse(Parser* self, Text path, const void* data, size_t size)
{
    living(&self->network->object, NETWORK, "IParser::parse, on its network");
    if (self->used) return false; /* as the real one: a second parse fails and says nothing */
    self->used = true;
    ParserFault fault = {.node = -1};
    const Network* network = host.parse(path, data, size, &fault, self->object.logger);
    if (network != NULL) { fill(self->network, network); return true; }
    self->error = make(sizeof *self->error, PARSER_ERROR, NULL, NULL);
    self->error->fault = fault;
    return false;
}
static bool IParser_parseFromFile(void* this, Text path, int32_t verbosity) { PARSER_SELF(Parser, PARSER); (void)verbosity; return parse(self, path, NULL, 0); }
static bool IParser_parse(void* this, const void* data, size_t size, Text path) { PARSER_SELF(Parser, PARSER); return parse(self, path, data, size); }
static int32_t IParser_getNbErrors(void* this) { PARSER_SELF(Parser, PARSER); return self->error != NULL; }
static void* IParser_getError(void* this, int32_t at) { PARSER_SELF(Parser, PARSER); return at == 0 ? self->error : NULL; }
static void IParser_clearErrors(void* this) { PARSER_SELF(Parser, PARSER); if (self->error != NULL) bury(&self->error->object); self->error = NULL; }
static void IParser_setFlags(void* this, uint32_t flags) { PARSER_SELF(Parser, PARSER); self->flags = flags; }
static uint32_t IParser_getFlags(void* this) { PARSER_SELF(Parser, PARSER); return self->flags; }
static void IParser_setFlag(void* this, int32_t flag) { PARSER_SELF(Parser, PARSER); self->flags |= 1u << flag; }
static void IParser_clearFlag(void* this, int32_t flag) { PARSER_SELF(Parser, PARSER); self->flags &= ~(1u << flag); }
static bool IParser_getFlag(void* this, int32_t flag) { PARSER_SELF(Parser, PARSER); return self->flags >> flag & 1; }
static void bury_error(Parser* self) { if (self->error != NULL) bury(&self->error->object); }
#define SAYS(Type, name, value) static Type IParserError_##name(void* this) { PARSER_SELF(ParserError, PARSER_ERROR); (void)self; return value; }
static Text text_or_nothing(Text text) { return text == NULL ? "" : text; }
SAYS(int32_t, code, self->fault.code)
SAYS(Text, desc, text_or_nothing(self->fault.description))
SAYS(Text, file, "stand-in")
SAYS(int32_t, line, 0)
SAYS(Text, func, "parse")
SAYS(int32_t, node, self->fault.node)
SAYS(Text, nodeName, text_or_nothing(self->fault.node_name))
SAYS(Text, nodeOperator, text_or_nothing(self->fault.operator_name))
SAYS(const Text*, localFunctionStack, NULL)
SAYS(int32_t, localFunctionStackSize, 0)

/* Configurations. */
#define HOLDS(Type, member, setter, getter) \
    static void VBuilderConfig_##setter(void* this, Type value) { SELF(Config, CONFIG); self->member = value; } \
    static Type VBuilderConfig_##getter(void* this) { SELF(Config, CONFIG); return self->member; }
HOLDS(int32_t, level, setBuilderOptimizationLevel, getBuilderOptimizationLevel)
HOLDS(int32_t, compatibility, setHardwareCompatibilityLevel, getHardwareCompatibilityLevel)
HOLDS(int32_t, verbosity, setProfilingVerbosity, getProfilingVerbosity)
HOLDS(int32_t, streams, setMaxAuxStreams, getMaxAuxStreams)
HOLDS(int32_t, averaging, setAvgTimingIterations, getAvgTimingIterations)
HOLDS(void*, monitor, setProgressMonitor, getProgressMonitor)
static void face_IBuilderConfig_setAvgTimingIterations(void* face, int32_t count) { FACE(Config, CONFIG, self, face); self->averaging = count; }
static void VBuilderConfig_setFlag(void* this, int32_t flag) { SELF(Config, CONFIG); self->flags |= 1ull << flag; }
static void VBuilderConfig_clearFlag(void* this, int32_t flag) { SELF(Config, CONFIG); self->flags &= ~(1ull << flag); }
static bool VBuilderConfig_getFlag(void* this, int32_t flag) { SELF(Config, CONFIG); return self->flags >> flag & 1; }
static uint32_t VBuilderConfig_getFlags(void* this) { SELF(Config, CONFIG); return (uint32_t)self->flags; }
static void VBuilderConfig_setFlags(void* this, uint32_t flags) { SELF(Config, CONFIG); self->flags = flags; }
static void VBuilderConfig_setMemoryPoolLimit(void* this, int32_t pool, size_t size) { SELF(Config, CONFIG); self->pool[pool & 15] = size; }
static size_t VBuilderConfig_getMemoryPoolLimit(void* this, int32_t pool) { SELF(Config, CONFIG); return self->pool[pool & 15]; }
static int32_t VBuilderConfig_addOptimizationProfile(void* this, void* profile)
{
    SELF(Config, CONFIG);
    FACE(Profile, PROFILE, added, profile);
    if (self->profiles == MANY || !VOptimizationProfile_isValid(&added->object.functions)) return -1;
    self->profile[self->profiles] = added;
    return self->profiles++;
}
static int32_t VBuilderConfig_getNbOptimizationProfiles(void* this) { SELF(Config, CONFIG); return self->profiles; }
static void* VBuilderConfig_createTimingCache(void* this, const void* data, size_t size)
{
    SELF(Config, CONFIG);
    static const char mark[] = "stand-in timings\n";
    if (size > 0 && (size < sizeof mark - 1 || memcmp(data, mark, sizeof mark - 1) != 0)) {
        refuse(self->object.logger, "IBuilderConfig::createTimingCache: Error Code 3: API Usage Error (not a timing cache)");
        return NULL;
    }
    return size > 0 ? memory_of(data, size, TIMING_CACHE, NULL) : memory_of(mark, sizeof mark - 1, TIMING_CACHE, NULL);
}
static bool VBuilderConfig_setTimingCache(void* this, void* cache, bool ignore_mismatch) { SELF(Config, CONFIG); (void)ignore_mismatch; self->cache = cache; return true; }
static void* VBuilderConfig_getTimingCache(void* this) { SELF(Config, CONFIG); return self->cache; }

/* IProgressMonitor is made by Python; false from a step asks to stop. */
static bool advance(void* monitor)
{
    static const struct { Text name, parent; int32_t steps; } phases[] = {{"Building", NULL, 2}, {"Choosing kernels", "Building", 40}};
    if (monitor == NULL) return true;
    void** functions = *(void***)monitor;
    bool goes_on = true;
    ((void (*)(void*, Text, Text, int32_t))functions[4])(monitor, phases[0].name, phases[0].parent, phases[0].steps);
    ((void (*)(void*, Text, Text, int32_t))functions[4])(monitor, phases[1].name, phases[1].parent, phases[1].steps);
    for (int32_t step = 0; goes_on && step < phases[1].steps; ++step)
        goes_on = ((bool (*)(void*, Text, int32_t))functions[5])(monitor, phases[1].name, step);
    ((void (*)(void*, Text))functions[6])(monitor, phases[1].name);
    for (int32_t step = 0; goes_on && step < phases[0].steps; ++step)
        goes_on = ((bool (*)(void*, Text, int32_t))functions[5])(monitor, phases[0].name, step);
    ((void (*)(void*, Text))functions[6])(monitor, phases[0].name);
    return goes_on;
}
static void* VBuilder_buildSerializedNetwork(void* this, void* network_face, void* config_face)
{
    SELF(Builder, BUILDER);
    FACE(Definition, NETWORK, definition, network_face);
    FACE(Config, CONFIG, config, config_face);
    const Network* network = definition->network;
    void* logger = self->object.logger;
    if (network == NULL) { refuse(logger, "IBuilder::buildSerializedNetwork: Error Code 4: Internal Error (no network)"); return NULL; }
    Dims* profiles = calloc((size_t)(config->profiles + 1) * (network->tensors + 1) * 3, sizeof(Dims));
    for (int i = 0; i < network->tensors; ++i) {
        const TensorInfo* tensor = &network->tensor[i];
        if (tensor->mode != host.input_mode || !is_dynamic(&tensor->dims)) continue;
        if (config->profiles == 0) {
            refuse(logger, "Network has dynamic or shape inputs, but no optimization profile has been defined.");
            return NULL;
        }
        for (int p = 0; p < config->profiles; ++p) {
            const Range* range = range_of(config->profile[p], tensor->name, false);
            if (range == NULL || range->dims[0].rank != tensor->dims.rank) {
                refuse(logger, "Dynamic input tensor %s is missing dimensions in profile %d.", tensor->name, p);
                return NULL;
            }
            memcpy(&profiles[(p * network->tensors + i) * 3], range->dims, sizeof range->dims);
        }
    }
    Bytes plan = {NULL, 0};
    if (!advance(config->monitor) || !host.build(network, profiles, config->profiles, &plan, logger)) return NULL;
    return memory_of(plan.at, plan.size, MEMORY, NULL);
}
