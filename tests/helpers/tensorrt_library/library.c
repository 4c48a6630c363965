/* A stand-in for TensorRT's libraries, to be loaded under TensorRT's own Python bindings in tests. It is not TensorRT: it keeps
 * objects, shapes, addresses and the order in which things live and die, and asks Python (`Host`) to read plans and to compute.
 *
 * Each object has the layout that the public interfaces have: a face {virtual table, pointer to the implementation}, and the
 * implementation with a virtual table of its own, which here is the word behind it. `tables.h` is generated from slots.txt: it
 * fills each slot with the function CLASS_NAME of this file, or with one that names the slot and ends the process. */
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define API __attribute__((visibility("default")))
#define MANY 64
typedef const char* Text;
typedef struct { int32_t rank; int64_t extent[8]; } Dims;

/* What Python describes; helpers/tensorrt_library/host.py has the same structures. */
typedef struct { Text name; int32_t type, size, mode, location, format; Dims dims; Text axes[8]; } TensorInfo;
typedef struct { Text name; int32_t type, output; } LayerInfo;
typedef struct {
    int32_t tensors, layers, profiles, refusals, fails_after;
    const TensorInfo* tensor;
    const LayerInfo* layer;
    const Dims* profile; /* [profiles][tensors][smallest, tuned, largest] */
    Text layers_json;
    int64_t memory;
} Network;
enum { REFUSE_SHAPE = 1, REFUSE_CONTEXT = 2, REFUSE_PROFILE = 4, REFUSE_INFER = 8 };
typedef struct { int32_t code, node; Text description, node_name, operator_name; } ParserFault;
typedef struct { const void* at; size_t size; } Bytes;
typedef struct {
    const Network* (*load)(const void* plan, size_t size, void* logger);
    const Network* (*parse)(Text path, const void* data, size_t size, ParserFault* fault, void* logger);
    bool (*build)(const Network* network, const Dims* profiles, int32_t count, Bytes* plan, void* logger);
    bool (*output_shapes)(const Network* network, Dims* shapes, void* logger);
    bool (*run)(const Network* network, int64_t context, int64_t generation, void* stream, const Dims* shapes,
                void* const* addresses, void* logger);
    void (*forget)(const Network* network, int64_t context);
    int (*current_context)(void** context); /* of the CUDA driver; these are NULL without one */
    int (*stream_context)(void* stream, void** context);
    int (*address_range)(void** base, size_t* size, void* at);
    int32_t typed_flag, host_type, input_mode, output_mode;
    Text null_object, null_reason; /* a constructor that gives null, and what it says */
} Host;
static Host host;
API void standin_connect(const Host* given) { host = *given; }

/* Objects. Dead ones stay allocated: what uses one, or deletes it twice, is named, and no wrapper's address comes again. */
enum Kind { RUNTIME, ENGINE, CONTEXT, MEMORY, INSPECTOR, RUNTIME_CONFIG, BUILDER, NETWORK, CONFIG, PROFILE, TENSOR, LAYER,
            TIMING_CACHE, PARSER, PARSER_ERROR, KINDS };
typedef struct Object {
    const void* face;
    void* implementation;
    const void* functions;
    enum Kind kind;
    bool dead;
    int children;
    int64_t number;
    struct Object* parent;
    void* logger;
} Object;
enum { LAYOUT_10, LAYOUT_10_8, LAYOUT_11, LAYOUTS }; /* places of the slots; the version that the bindings give chooses */
static const void* const* const faces[LAYOUTS][KINDS]; /* in tables.h; two words stand before the first function */
static const void* const* const classes[LAYOUTS][KINDS];
static const char* const kind_names[KINDS];
static int alive[KINDS], layout = -1;
static int64_t made_so_far;
static char faults[8192], trail[1 << 16];
static int trail_length;

API int standin_alive(int kind) { return alive[kind]; }
API Text standin_kind(int kind) { return kind < KINDS ? kind_names[kind] : NULL; }
API Text standin_faults(void) { return faults; }
API void standin_forgive(void) { faults[0] = 0; }
API Text standin_trail(void) { return trail; }
API void standin_new_trail(void) { trail[trail_length = 0] = 0; }

static void wrong(Text format, ...)
{
    const size_t used = strlen(faults);
    va_list values;
    va_start(values, format);
    vsnprintf(faults + used, sizeof faults - used - 1, format, values);
    va_end(values);
    fprintf(stderr, "stand-in library: %s\n", faults + used); /* what comes next may end the process */
    strcat(faults, "\n");
}
static void die(Text what, Text where)
{
    fprintf(stderr, "stand-in library: %s: %s\n", where, what);
    fflush(stderr);
    abort();
}
static void note(char sign, const Object* object)
{
    const int left = (int)sizeof trail - trail_length;
    if (left > 64) trail_length += snprintf(trail + trail_length, left, "%c%s ", sign, kind_names[object->kind]);
}
/* ILogger is made by Python: `log` is its first function, and the fifth from 11 on. */
API void standin_say(void* logger, int32_t severity, Text text)
{
    void** functions = *(void***)logger;
    ((void (*)(void*, int32_t, Text))functions[layout >= LAYOUT_11 ? 4 : 0])(logger, severity, text);
}
static bool refuse(void* logger, Text format, ...)
{
    char text[1024];
    va_list values;
    va_start(values, format);
    vsnprintf(text, sizeof text, format, values);
    va_end(values);
    standin_say(logger, 1, text);
    return false;
}
static void* make(size_t size, enum Kind kind, void* parent, void* logger)
{
    Object* object = calloc(1, size);
    *object = (Object){.face = faces[layout][kind] + 2, .functions = classes[layout][kind] + 2, .kind = kind,
                       .number = __atomic_add_fetch(&made_so_far, 1, __ATOMIC_RELAXED), .parent = parent, .logger = logger};
    object->implementation = &object->functions;
    if (kind == PARSER || kind == PARSER_ERROR) object->face = object->functions; /* these have no implementation apart */
    __atomic_add_fetch(&alive[kind], 1, __ATOMIC_RELAXED);
    if (parent != NULL) __atomic_add_fetch(&object->parent->children, 1, __ATOMIC_RELAXED);
    note('+', object);
    return object;
}
static void* living(Object* object, enum Kind kind, Text where)
{
    if (object->kind != kind) die("called on an object of another class", where);
    if (object->dead) die("called on an object that has been destroyed", where);
    return object;
}
#define SELF(Type, KIND) Type* self = living((Object*)((char*)this - offsetof(Object, functions)), KIND, __func__)
#define FACE(Type, KIND, name, face) Type* name = living((Object*)(face), KIND, __func__)

static void bury(Object* object)
{
    if (object->children > 0) wrong("%s was destroyed before %d made by it", kind_names[object->kind], object->children);
    if (object->parent != NULL) {
        if (object->parent->dead) wrong("%s was destroyed after its %s", kind_names[object->kind], kind_names[object->parent->kind]);
        __atomic_sub_fetch(&object->parent->children, 1, __ATOMIC_RELAXED);
    }
    object->dead = true;
    __atomic_sub_fetch(&alive[object->kind], 1, __ATOMIC_RELAXED);
    note('-', object);
}
static Text copy_of(Text text) { return text == NULL ? NULL : strdup(text); }

/* HostMemory, TimingCache: bytes. */
typedef struct { Object object; Bytes bytes; } Memory;
static void* memory_of(const void* at, size_t size, enum Kind kind, void* parent)
{
    Memory* memory = make(sizeof *memory, kind, parent, NULL);
    void* copy = malloc(size + 1);
    memory->bytes = (Bytes){memcpy(copy, at, size), size};
    return memory;
}
static const void* VHostMemory_data(void* this) { SELF(Memory, MEMORY); return self->bytes.at; }
static size_t VHostMemory_size(void* this) { SELF(Memory, MEMORY); return self->bytes.size; }
static int32_t VHostMemory_type(void* this) { SELF(Memory, MEMORY); (void)self; return host.host_type; }

static void* VTimingCache_serialize(void* this) { SELF(Memory, TIMING_CACHE); return memory_of(self->bytes.at, self->bytes.size, MEMORY, NULL); }
static bool VTimingCache_combine(void* this, void* other, bool ignore) { SELF(Memory, TIMING_CACHE); (void)self; (void)other; return ignore; }
static bool VTimingCache_reset(void* this) { SELF(Memory, TIMING_CACHE); self->bytes.size = 0; return true; }

/* Runtime and engine. */
typedef struct { Object object; bool host_code; } Runtime;
typedef struct { Object object; const Network* network; void* cuda; int contexts; Bytes plan; } Engine;

static void* VRuntime_deserializeCudaEngine(void* this, const void* plan, size_t size)
{
    SELF(Runtime, RUNTIME);
    const Network* network = host.load(plan, size, self->object.logger);
    if (network == NULL) return NULL;
    Engine* engine = make(sizeof *engine, ENGINE, self, self->object.logger);
    engine->network = network;
    engine->plan = (Bytes){memcpy(malloc(size), plan, size), size};
    if (host.current_context != NULL) host.current_context(&engine->cuda);
    return engine;
}
static void VRuntime_setEngineHostCodeAllowed(void* this, bool allowed) { SELF(Runtime, RUNTIME); self->host_code = allowed; }
static bool VRuntime_getEngineHostCodeAllowed(void* this) { SELF(Runtime, RUNTIME); return self->host_code; }
static void* VRuntime_getLogger(void* this) { SELF(Runtime, RUNTIME); return self->object.logger; }

static int position(const Engine* engine, Text name)
{
    for (int i = 0; i < engine->network->tensors; ++i)
        if (strcmp(engine->network->tensor[i].name, name) == 0) return i;
    return -1;
}
static const TensorInfo nothing = {.dims = {.rank = -1}};
static const TensorInfo* tensor_of(const Engine* engine, Text name)
{
    const int at = position(engine, name);
    if (at >= 0) return &engine->network->tensor[at];
    refuse(engine->object.logger, "ICudaEngine::standIn: Error Code 3: API Usage Error (given invalid tensor name: %s)", name);
    return &nothing;
}
#define INT_OF(member, getter) \
    static int32_t VCudaEngine_##getter(void* this, Text name) { SELF(Engine, ENGINE); return tensor_of(self, name)->member; }
INT_OF(type, getTensorDataType)
INT_OF(location, getTensorLocation)
INT_OF(format, getTensorFormat)
INT_OF(size, getTensorBytesPerComponent)
static int32_t VCudaEngine_getTensorFormatV2(void* this, Text name, int32_t profile) { (void)profile; return VCudaEngine_getTensorFormat(this, name); }
static int32_t VCudaEngine_getTensorIOMode(void* this, Text name)
{
    SELF(Engine, ENGINE);
    const int at = position(self, name);
    return at < 0 ? 0 : self->network->tensor[at].mode;
}
static Dims VCudaEngine_getTensorShape(void* this, Text name)
{
    SELF(Engine, ENGINE);
    if (!(self->network->refusals & REFUSE_SHAPE)) return tensor_of(self, name)->dims;
    refuse(self->object.logger, "ICudaEngine::getTensorShape: Error Code 3: API Usage Error (given invalid tensor name: %s)", name);
    return nothing.dims;
}
static Dims VCudaEngine_getProfileShape(void* this, Text name, int32_t profile, int32_t selector)
{
    SELF(Engine, ENGINE);
    const int at = position(self, name);
    if (at < 0 || profile < 0 || profile >= self->network->profiles || selector < 0 || selector > 2) return tensor_of(self, "")->dims;
    return self->network->profile[(profile * self->network->tensors + at) * 3 + selector];
}
static int32_t VCudaEngine_getNbIOTensors(void* this) { SELF(Engine, ENGINE); return self->network->tensors; }
static Text VCudaEngine_getIOTensorName(void* this, int32_t at)
{
    SELF(Engine, ENGINE);
    return at >= 0 && at < self->network->tensors ? self->network->tensor[at].name : NULL;
}
static int32_t VCudaEngine_getNbLayers(void* this) { SELF(Engine, ENGINE); return self->network->layers; }
static int32_t VCudaEngine_getNbOptimizationProfiles(void* this) { SELF(Engine, ENGINE); return self->network->profiles > 0 ? self->network->profiles : 1; }
static Text VCudaEngine_getName(void* this) { SELF(Engine, ENGINE); (void)self; return "stand-in"; }
static size_t VCudaEngine_getDeviceMemorySize(void* this) { SELF(Engine, ENGINE); return (size_t)self->network->memory; }
static int64_t VCudaEngine_getDeviceMemorySizeV2(void* this) { SELF(Engine, ENGINE); return self->network->memory; }
static void* VCudaEngine_serialize(void* this) { SELF(Engine, ENGINE); return memory_of(self->plan.at, self->plan.size, MEMORY, NULL); }

/* Execution contexts. */
typedef struct {
    Object object;
    Engine* engine;
    int32_t profile, runs;
    int64_t generation; /* changes with each shape and address */
    bool has_shape[MANY], inferred;
    Dims shape[MANY];
    void* address[MANY];
    void* profiler;
    bool profiles_later;
} Context;
static bool is_dynamic(const Dims* dims)
{
    for (int i = 0; i < dims->rank; ++i) if (dims->extent[i] < 0) return true;
    return false;
}
static bool is_input(const Context* self, int at) { return self->engine->network->tensor[at].mode == host.input_mode; }
static void* context_of(Engine* engine)
{
    const Network* network = engine->network;
    if (network->refusals & REFUSE_CONTEXT) {
        refuse(engine->object.logger, "[defaultAllocator.cpp::allocate::31] Error Code 1: Cuda Runtime (out of memory)");
        return NULL;
    }
    if (network->tensors > MANY) die("too many tensors for it", __func__);
    Context* context = make(sizeof *context, CONTEXT, engine, engine->object.logger);
    context->engine = engine;
    context->profile = __atomic_fetch_add(&engine->contexts, 1, __ATOMIC_RELAXED) == 0 ? 0 : -1;
    return context;
}
static void* VCudaEngine_createExecutionContext(void* this, int32_t strategy) { SELF(Engine, ENGINE); (void)strategy; return context_of(self); }
static void* VCudaEngine_createExecutionContextWithRuntimeConfig(void* this, void* config)
{
    SELF(Engine, ENGINE);
    living(config, RUNTIME_CONFIG, __func__);
    return context_of(self);
}
static void* VCudaEngine_createRuntimeConfig(void* this) { SELF(Engine, ENGINE); return make(sizeof(Object), RUNTIME_CONFIG, self, NULL); }
static bool refused(const Context* self, Text format, ...)
{
    char text[512];
    va_list values;
    va_start(values, format);
    vsnprintf(text, sizeof text, format, values);
    va_end(values);
    return refuse(self->object.logger, "IExecutionContext::standIn: Error Code 3: API Usage Error (%s)", text);
}
static void* VExecutionContext_getEngine(void* this) { SELF(Context, CONTEXT); return self->engine; }
static int32_t VExecutionContext_getOptimizationProfile(void* this) { SELF(Context, CONTEXT); return self->profile; }
static bool is_foreign(const Context* self, void* stream)
{
    void* of_stream = NULL;
    if (host.stream_context == NULL || self->engine->cuda == NULL) return false;
    return host.stream_context(stream, &of_stream) != 0 || of_stream != self->engine->cuda;
}
static bool VExecutionContext_setOptimizationProfileAsync(void* this, int32_t profile, void* stream)
{
    SELF(Context, CONTEXT);
    const int count = self->engine->network->profiles > 0 ? self->engine->network->profiles : 1;
    if (profile < 0 || profile >= count || stream == NULL || self->engine->network->refusals & REFUSE_PROFILE)
        return refused(self, "profile %d", profile);
    if (is_foreign(self, stream)) return refused(self, "the stream is not one of the engine's device");
    self->profile = profile;
    memset(self->has_shape, 0, sizeof self->has_shape);
    self->inferred = false;
    ++self->generation;
    return true;
}
static bool VExecutionContext_setInputShape(void* this, Text name, const Dims* dims)
{
    SELF(Context, CONTEXT);
    const Network* network = self->engine->network;
    const int at = position(self->engine, name);
    if (at < 0 || !is_input(self, at)) return refused(self, "%s is no input", name);
    const Dims* fixed = &network->tensor[at].dims;
    bool fits = fixed->rank == dims->rank;
    for (int i = 0; fits && i < dims->rank; ++i) fits = fixed->extent[i] < 0 || fixed->extent[i] == dims->extent[i];
    if (!fits) return refused(self, "static dimensions of %s differ", name);
    if (is_dynamic(fixed)) {
        if (self->profile < 0) return refused(self, "no optimization profile is set");
        const Dims* range = &network->profile[(self->profile * network->tensors + at) * 3];
        for (int i = 0; fits && i < dims->rank; ++i)
            fits = range[0].extent[i] <= dims->extent[i] && dims->extent[i] <= range[2].extent[i];
        if (!fits) return refused(self, "the shape of %s is outside the profile", name);
    }
    const bool same = self->has_shape[at] && memcmp(self->shape[at].extent, dims->extent, sizeof(int64_t) * dims->rank) == 0;
    if (same) return true;
    self->shape[at] = *dims;
    self->has_shape[at] = true;
    self->inferred = false;
    ++self->generation;
    return true;
}
/* The number of inputs without a shape, and their names. */
static int32_t lacking(const Context* self, int32_t room, Text* names)
{
    int32_t count = 0;
    for (int i = 0; i < self->engine->network->tensors; ++i) {
        const TensorInfo* tensor = &self->engine->network->tensor[i];
        if (tensor->mode != host.input_mode || !is_dynamic(&tensor->dims) || self->has_shape[i]) continue;
        if (count < room) names[count] = tensor->name;
        ++count;
    }
    return count;
}
static int32_t VExecutionContext_inferShapes(void* this, int32_t room, Text* names)
{
    SELF(Context, CONTEXT);
    if (self->engine->network->refusals & REFUSE_INFER) { refused(self, "the shapes contradict each other"); return -1; }
    return lacking(self, room, names);
}
static bool complete(Context* self)
{
    const Network* network = self->engine->network;
    if (self->inferred) return true;
    if (lacking(self, 0, NULL) > 0) return false;
    for (int i = 0; i < network->tensors; ++i)
        if (!self->has_shape[i] || !is_input(self, i)) self->shape[i] = network->tensor[i].dims;
    return self->inferred = host.output_shapes(network, self->shape, self->object.logger);
}
static Dims VExecutionContext_getTensorShape(void* this, Text name)
{
    SELF(Context, CONTEXT);
    const int at = position(self->engine, name);
    if (at < 0) return tensor_of(self->engine, name)->dims;
    if (is_input(self, at) && self->has_shape[at]) return self->shape[at];
    const Dims fixed = self->engine->network->tensor[at].dims;
    if (self->engine->network->refusals & REFUSE_INFER && !is_input(self, at)) {
        refused(self, "the shapes contradict each other");
        return nothing.dims;
    }
    return is_dynamic(&fixed) && complete(self) ? self->shape[at] : fixed;
}
static int64_t bytes_of(const Context* self, int at)
{
    int64_t size = self->engine->network->tensor[at].size;
    for (int i = 0; i < self->shape[at].rank; ++i) size *= self->shape[at].extent[i];
    return size;
}
/* Whether the driver has all of this memory: a freed address, or one that is too small, is not it. */
static bool is_allocated(const Context* self, int at)
{
    void* base = NULL;
    size_t size = 0;
    if (host.address_range == NULL) return true;
    if (host.address_range(&base, &size, self->address[at]) != 0) return false;
    return (char*)self->address[at] + bytes_of(self, at) <= (char*)base + size;
}
static bool VExecutionContext_setTensorAddress(void* this, Text name, void* address)
{
    SELF(Context, CONTEXT);
    const int at = position(self->engine, name);
    if (at < 0 || (uintptr_t)address % 256 != 0) return refused(self, "the address of %s", name);
    if (self->address[at] != address) ++self->generation;
    self->address[at] = address;
    return true;
}
static const void* VExecutionContext_getTensorAddress(void* this, Text name)
{
    SELF(Context, CONTEXT);
    const int at = position(self->engine, name);
    return at < 0 ? NULL : self->address[at];
}
static void report(const Context* self);
static bool VExecutionContext_enqueueV3(void* this, void* stream)
{
    SELF(Context, CONTEXT);
    const Network* network = self->engine->network;
    ++self->runs;
    for (int i = 0; i < network->tensors; ++i)
        if (self->address[i] == NULL) return refused(self, "no address for %s", network->tensor[i].name);
    if (self->profile < 0 || !complete(self)) return refused(self, "shapes or profile are not set");
    for (int i = 0; i < network->tensors; ++i)
        if (!is_allocated(self, i))
            return refused(self, "the %lld bytes of %s are not allocated", (long long)bytes_of(self, i), network->tensor[i].name);
    if (is_foreign(self, stream)) return refused(self, "the stream is not one of the engine's device");
    if (network->fails_after >= 0 && self->runs > network->fails_after)
        return refused(self, "Cuda Runtime (an illegal memory access was encountered)");
    if (!host.run(network, self->object.number, self->generation, stream, self->shape, self->address, self->object.logger)) return false;
    if (self->profiler != NULL && !self->profiles_later) report(self);
    return true;
}
/* IProfiler is made by Python. The times are made up: the layer's number, in milliseconds. */
static void report(const Context* self)
{
    void** functions = *(void***)self->profiler;
    const Network* network = self->engine->network;
    for (int i = 0; i < network->layers; ++i)
        ((void (*)(void*, Text, float))functions[layout >= LAYOUT_11 ? 4 : 0])(self->profiler, network->layer[i].name, (float)(i + 1));
}
static void VExecutionContext_setProfiler(void* this, void* profiler) { SELF(Context, CONTEXT); self->profiler = profiler; }
static void* VExecutionContext_getProfiler(void* this) { SELF(Context, CONTEXT); return self->profiler; }
static void VExecutionContext_setEnqueueEmitsProfile(void* this, bool emits) { SELF(Context, CONTEXT); self->profiles_later = !emits; }
static bool VExecutionContext_getEnqueueEmitsProfile(void* this) { SELF(Context, CONTEXT); return !self->profiles_later; }
static bool VExecutionContext_reportToProfiler(void* this)
{
    SELF(Context, CONTEXT);
    if (self->profiler == NULL || self->runs == 0) return refused(self, "nothing has run with a profiler");
    report(self);
    return true;
}

/* The inspector. */
typedef struct { Object object; Engine* engine; } Inspector;
static void* VCudaEngine_createEngineInspector(void* this)
{
    SELF(Engine, ENGINE);
    Inspector* inspector = make(sizeof *inspector, INSPECTOR, self, NULL);
    inspector->engine = self;
    return inspector;
}
static bool VEngineInspector_setExecutionContext(void* this, void* context) { SELF(Inspector, INSPECTOR); (void)self; (void)context; return true; }
static Text VEngineInspector_getEngineInformation(void* this, int32_t format) { SELF(Inspector, INSPECTOR); (void)format; return self->engine->network->layers_json; }
static Text VEngineInspector_getLayerInformation(void* this, int32_t layer, int32_t format) { SELF(Inspector, INSPECTOR); (void)format; return self->engine->network->layer[layer].name; }

#include "building.h"

/* Where the bindings come in. The deleting destructor of a face is all that they use to end an object. */
static void destroy(void* face)
{
    Object* object = face;
    if (object->dead) die("destroyed twice", kind_names[object->kind]);
    if (object->kind == CONTEXT) host.forget(((Context*)object)->engine->network, object->number);
    if (object->kind == NETWORK) bury_contents(face);
    if (object->kind == BUILDER) bury_profiles(face);
    if (object->kind == PARSER) bury_error(face);
    bury(object);
}
static void absent(Text where, Text name)
{
    char text[128];
    snprintf(text, sizeof text, "%s is not there", name);
    die(text, where);
}
#include "tables.h"

static void* begin(Text kind_name, enum Kind kind, size_t size, void* logger, int32_t version)
{
    const int wanted = version >= 110000 ? LAYOUT_11 : version / 100 == 1008 ? LAYOUT_10_8 : LAYOUT_10;
    if (layout >= 0 && layout != wanted) die("two versions of the bindings in one process", kind_name);
    layout = wanted;
    if (host.load == NULL) die("Python has not connected it (helpers.tensorrt_library.host)", kind_name);
    if (host.null_object != NULL && strcmp(host.null_object, kind_name) == 0) {
        standin_say(logger, 1, host.null_reason);
        return NULL;
    }
    return make(size, kind, NULL, logger);
}
API void* createInferRuntime_INTERNAL(void* logger, int32_t version) { return begin("Runtime", RUNTIME, sizeof(Runtime), logger, version); }
API void* createInferBuilder_INTERNAL(void* logger, int32_t version) { return begin("Builder", BUILDER, sizeof(Builder), logger, version); }
API void* createNvOnnxParser_INTERNAL(void* network, void* logger, int32_t version)
{
    (void)version;
    if (host.null_object != NULL && strcmp(host.null_object, "OnnxParser") == 0) {
        standin_say(logger, 1, host.null_reason);
        return NULL;
    }
    Parser* parser = make(sizeof *parser, PARSER, NULL, logger);
    FACE(Definition, NETWORK, of, network);
    parser->network = of;
    return parser;
}
API int32_t getNvOnnxParserVersion(void) { return 0; }
API void* createInferRefitter_INTERNAL(void* engine, void* logger, int32_t version) { (void)engine; (void)logger; (void)version; return NULL; }
API void* createNvOnnxParserRefitter_INTERNAL(void* refitter, void* logger, int32_t version) { (void)refitter; (void)logger; (void)version; return NULL; }
API void* getBuilderPluginRegistry(int32_t capability) { (void)capability; return NULL; }
API void* getPluginRegistry(void) { return NULL; }
API bool initLibNvInferPlugins(void* logger, Text name_space) { (void)logger; (void)name_space; return true; }
