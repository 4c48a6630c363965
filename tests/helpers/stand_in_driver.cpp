// A stand-in for the CUDA driver's library, for tests on machines without a GPU. It is no GPU: "device memory" is the
// host's, every operation is done when it is queued, and the only kernels are the emulator's. What it does keep is the
// driver's manners that our Python code depends on: handles, contexts as a stack for each thread, error codes, the
// count of what is alive, capture into graphs, and a limit of memory. Compiled together with the emulated kernels.
//
// STAND_IN_DEVICES=2 shows two devices. With STAND_IN_APART as well, a kernel of one that touches the memory of the other
// ends the process. STAND_IN_IDLE="a,b,c" does no work at all and only takes its time, without a processor: a and b are
// the microseconds of each graph and of each image in it, and c the gigabytes that are copied up in a second.

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <dlfcn.h>
#include <mutex>
#include <map>
#include <set>
#include <string>
#include <sys/mman.h>
#include <time.h>

namespace stand_in {

typedef int Status;
enum : Status {
    SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, INVALID_DEVICE = 101, INVALID_CONTEXT = 201,
    INVALID_HANDLE = 400, NOT_FOUND = 500, ILLEGAL_STATE = 401, NOT_READY = 600, CAPTURE_UNSUPPORTED = 900, CAPTURE_INVALIDATED = 901,
};
static const size_t TOTAL = (size_t)1 << 32;

typedef std::vector<std::function<void()>> Work;
struct Stream { bool capturing = false; bool invalid = false; Work recorded; void* context = nullptr; unsigned images = 0; double ends = 0; };
struct Event { double at = 0; };
struct Graph { Work work; unsigned images = 0; };
struct Function { std::string name, kinds; int (*launch)(const unsigned*, const unsigned*, unsigned, void**); void* context; };
struct Module { void* context; };

static std::mutex mutex;
static std::map<void*, size_t> blocks;
static std::map<void*, int> owners;  // the device of each block
static size_t used = 0;
static std::set<void*> pinned, streams, events, graphs, executables, modules;
static const int DEVICES = std::getenv("STAND_IN_DEVICES") ? 2 : 1;  // a second one, for what must not be mixed up
static int context_objects[2], retained[2];
inline int device_of(const void* context) { return context == &context_objects[1]; }
static thread_local std::vector<void*> contexts;
static const bool APART = DEVICES > 1 && std::getenv("STAND_IN_APART");
static const char* const IDLE = std::getenv("STAND_IN_IDLE");
static double graph_ms, image_ms, bytes_in_ms = 1, copies_end[2], runs_end[2];
static const bool timed = IDLE != nullptr && std::sscanf(IDLE, "%lf,%lf,%lf", &graph_ms, &image_ms, &bytes_in_ms) == 3
    && (graph_ms /= 1e3, image_ms /= 1e3, bytes_in_ms *= 1e6, true);
static const size_t PAGE = 4096;
static std::recursive_mutex pages;  // held while a kernel runs, and by whoever touches device memory otherwise
static std::map<void*, size_t> mapped[2];  // device memory by its device, only if there are two

// Hides the memory of the other device while a kernel runs.
struct Hidden {
    const int other;
    explicit Hidden(int device) : other(1 - device) { pages.lock(); protect(PROT_NONE); }
    ~Hidden() { protect(PROT_READ | PROT_WRITE); pages.unlock(); }
    void protect(int how) { for (const auto& one : mapped[other]) mprotect(one.first, one.second, how); }
};
static unsigned seed = 0;

inline bool current()
{
    if (contexts.empty()) return false;
    const int device = device_of(contexts.back());
    return contexts.back() == &context_objects[device] && retained[device] > 0;
}
inline void queue(void* stream, std::function<void()> work)
{
    if (timed) return;
    Stream* at = static_cast<Stream*>(stream);
    if (at != nullptr && at->capturing) at->recorded.push_back(std::move(work));
    else work();
}
inline double now() { timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec * 1e3 + t.tv_nsec * 1e-6; }

// Lets a stream use one of the two engines of its device, behind all that waits for that.
inline void take_time(void* stream, double* engine_ends, double ms)
{
    Stream* at = static_cast<Stream*>(stream);
    if (at == nullptr || at->capturing) return;
    std::lock_guard<std::mutex> lock(mutex);
    double& engine = engine_ends[device_of(at->context)];
    at->ends = engine = std::max({engine, at->ends, now()}) + ms;
}
inline void sleep_until(double ms)
{
    if (ms - now() < 0.01) return;  // to sleep takes longer
    const timespec until = {(time_t)(ms / 1e3), (long)(std::fmod(ms, 1e3) * 1e6)};
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, nullptr);
}

inline Status allocate(void** at, size_t size, bool on_device)
{
    if (size == 0) return INVALID_VALUE;
    if (size > TOTAL - used) return OUT_OF_MEMORY;
    const int device = contexts.empty() ? 0 : device_of(contexts.back());
    if (on_device && APART) {
        std::lock_guard<std::recursive_mutex> lock(pages);
        const size_t whole = (size + PAGE - 1) / PAGE * PAGE;
        *at = mmap(nullptr, whole, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        mapped[device][*at] = whole;
    } else *at = std::aligned_alloc(256, (size + 255) / 256 * 256);
    if (timed) std::memset(*at, 0, size);  // as if every result had been written, and were empty
    blocks[*at] = size;
    owners[*at] = device;
    used += size;
    return SUCCESS;
}
inline Status release(void* at)
{
    const auto found = blocks.find(at);
    if (found == blocks.end()) return INVALID_VALUE;
    used -= found->second;
    auto& pages_of_it = mapped[owners[at]];
    const auto page = pages_of_it.find(at);
    owners.erase(at);
    blocks.erase(found);
    if (page == pages_of_it.end()) std::free(at);
    else {
        std::lock_guard<std::recursive_mutex> lock(pages);
        munmap(at, page->second);
        pages_of_it.erase(page);
    }
    return SUCCESS;
}
template <typename T> Status make(std::set<void*>& all, void** out) { *out = new T; all.insert(*out); return SUCCESS; }
template <typename T> Status destroy(std::set<void*>& all, void* handle)
{
    if (!all.erase(handle)) return INVALID_HANDLE;
    delete static_cast<T*>(handle);
    return SUCCESS;
}

}  // namespace stand_in

using namespace stand_in;
extern "C" Status cuInit(unsigned);
static void* own_library()
{
    Dl_info self;
    dladdr((void*)&cuInit, &self);
    return dlopen(self.dli_fname, RTLD_NOW | RTLD_NOLOAD);
}
#define LOCKED std::lock_guard<std::mutex> lock(stand_in::mutex)
#define NEEDS_CONTEXT if (!current()) return INVALID_CONTEXT

extern "C" {
Status cuInit(unsigned) { return SUCCESS; }
Status cuGetExportTable(const void** table, const void*) { *table = nullptr; return NOT_FOUND; }
Status cuDriverGetVersion(int* version) { *version = 13090; return SUCCESS; }
Status cuDeviceGetCount(int* count) { *count = DEVICES; return SUCCESS; }
Status cuDeviceGet(int* device, int ordinal) { *device = ordinal; return ordinal >= 0 && ordinal < DEVICES ? SUCCESS : INVALID_DEVICE; }
Status cuDeviceGetName(char* name, int size, int) { std::snprintf(name, size, "stand-in (no GPU)"); return SUCCESS; }
Status cuDeviceTotalMem(size_t* bytes, int) { *bytes = TOTAL; return SUCCESS; }
Status cuDeviceTotalMem_v2(size_t* bytes, int device) { return cuDeviceTotalMem(bytes, device); }
Status cuDeviceGetAttribute(int* value, int attribute, int)
{
    const bool integrated = std::getenv("STAND_IN_INTEGRATED") != nullptr;  // as a Jetson says of its GPU
    *value = attribute == 75 ? 9 : attribute == 18 ? integrated : 0;  // compute capability 9.0
    return SUCCESS;
}
Status cuDevicePrimaryCtxRetain(void** context, int device)
{
    LOCKED;
    ++retained[device];
    *context = &context_objects[device];
    return SUCCESS;
}
Status cuDevicePrimaryCtxRelease(int device)
{
    LOCKED;
    return retained[device]-- > 0 ? SUCCESS : INVALID_CONTEXT;
}
Status cuCtxPushCurrent(void* context) { contexts.push_back(context); return SUCCESS; }
Status cuCtxPopCurrent(void** context)
{
    if (contexts.empty()) return INVALID_CONTEXT;
    *context = contexts.back();
    contexts.pop_back();
    return SUCCESS;
}
Status cuCtxPushCurrent_v2(void* context) { return cuCtxPushCurrent(context); }
Status cuCtxPopCurrent_v2(void** context) { return cuCtxPopCurrent(context); }
Status cuCtxSynchronize() { NEEDS_CONTEXT; return SUCCESS; }
Status cuMemGetInfo(size_t* free, size_t* total) { NEEDS_CONTEXT; LOCKED; *free = TOTAL - used; *total = TOTAL; return SUCCESS; }
Status cuMemAlloc(void** at, size_t size) { NEEDS_CONTEXT; LOCKED; return allocate(at, size, true); }
Status cuMemFree(void* at) { NEEDS_CONTEXT; LOCKED; return release(at); }
Status cuMemHostAlloc(void** at, size_t size, unsigned)
{
    NEEDS_CONTEXT;
    LOCKED;
    const Status status = allocate(at, size, false);
    if (status == SUCCESS) pinned.insert(*at);
    return status;
}
Status cuMemFreeHost(void* at) { NEEDS_CONTEXT; LOCKED; return pinned.erase(at) ? release(at) : INVALID_VALUE; }
Status copy(void* to, const void* from, size_t size, void* stream)
{
    NEEDS_CONTEXT;
    queue(stream, [=] {
        std::lock_guard<std::recursive_mutex> lock(pages);
        std::memcpy(to, from, size);
    });
    return SUCCESS;
}
static std::atomic<long long> copied_up{0};
Status cuMemcpyHtoDAsync(void* to, const void* from, size_t size, void* stream)
{
    copied_up += (long long)size;
    if (timed) take_time(stream, copies_end, size / bytes_in_ms);
    return copy(to, from, size, stream);
}
Status cuMemcpyHtoDAsync_v2(void* to, const void* from, size_t size, void* stream) { return cuMemcpyHtoDAsync(to, from, size, stream); }
long long stand_in_copied_up() { return copied_up; }  // not the driver's: the bytes of all copies to the device
void stand_in_write(void* to, const void* from, size_t size)  // not the driver's: what kernels of a library do
{
    {  // before `pages` is taken: who allocates takes them the other way round
        LOCKED;
        const auto after = owners.upper_bound(to);
        const bool is_ours = after != owners.begin() && current() && std::prev(after)->second == device_of(contexts.back());
        if (APART && !is_ours) std::abort();
    }
    std::lock_guard<std::recursive_mutex> lock(pages);
    std::memcpy(to, from, size);
}
Status cuMemcpyDtoHAsync(void* to, const void* from, size_t size, void* stream) { return copy(to, from, size, stream); }
Status cuMemsetD32Async(unsigned* to, unsigned value, size_t count, void* stream)
{
    NEEDS_CONTEXT;
    queue(stream, [=] {
        std::lock_guard<std::recursive_mutex> lock(pages);
        std::fill(to, to + count, value);
    });
    return SUCCESS;
}
Status cuPointerGetAttribute(void* value, int attribute, void* at)
{
    LOCKED;
    auto found = blocks.upper_bound(at);
    if (found == blocks.begin()) return INVALID_VALUE;
    --found;
    if (at >= static_cast<char*>(found->first) + found->second) return INVALID_VALUE;
    if (attribute == 2) *static_cast<unsigned*>(value) = pinned.count(found->first) ? 1 : 2;  // host or device memory
    else if (attribute == 3) *static_cast<void**>(value) = at;
    else *static_cast<int*>(value) = owners[found->first];
    return SUCCESS;
}
Status cuMemGetAddressRange_v2(void** base, size_t* size, void* at)
{
    LOCKED;
    auto found = blocks.upper_bound(at);
    if (found == blocks.begin()) return NOT_FOUND;
    --found;
    if (at >= static_cast<char*>(found->first) + found->second) return NOT_FOUND;
    *base = found->first;
    *size = found->second;
    return SUCCESS;
}
Status cuCtxGetCurrent(void** context)
{
    *context = contexts.empty() ? nullptr : contexts.back();
    return SUCCESS;
}
Status cuStreamCreate(void** out, unsigned)
{
    NEEDS_CONTEXT;
    LOCKED;
    const Status status = make<Stream>(streams, out);
    static_cast<Stream*>(*out)->context = contexts.back();
    return status;
}
Status cuStreamDestroy(void* stream) { NEEDS_CONTEXT; LOCKED; return destroy<Stream>(streams, stream); }
Status cuStreamGetCtx(void* stream, void** context)
{
    LOCKED;
    if (!streams.count(stream)) return INVALID_HANDLE;
    *context = static_cast<Stream*>(stream)->context;
    return SUCCESS;
}
Status cuStreamSynchronize(void* stream)
{
    NEEDS_CONTEXT;
    Stream* at = static_cast<Stream*>(stream);
    if (at != nullptr && at->capturing) { at->invalid = true; return CAPTURE_UNSUPPORTED; }
    if (timed && at != nullptr) sleep_until(at->ends);
    return SUCCESS;
}
Status cuStreamQuery(void* stream)
{
    NEEDS_CONTEXT;
    Stream* at = static_cast<Stream*>(stream);
    if (at != nullptr && at->capturing) { at->invalid = true; return CAPTURE_UNSUPPORTED; }
    return timed && at != nullptr && now() < at->ends ? NOT_READY : SUCCESS;
}
Status cuStreamWaitEvent(void* stream, void* event, unsigned)
{
    NEEDS_CONTEXT;
    LOCKED;
    if (!events.count(event)) return INVALID_HANDLE;
    Stream* at = static_cast<Stream*>(stream);
    if (timed && at != nullptr) at->ends = std::max(at->ends, static_cast<Event*>(event)->at);
    return SUCCESS;
}
Status cuStreamBeginCapture(void* stream, int)
{
    NEEDS_CONTEXT;
    Stream* at = static_cast<Stream*>(stream);
    if (at->capturing) return ILLEGAL_STATE;
    *at = Stream{true, false, {}, at->context, 0, at->ends};
    return SUCCESS;
}
Status cuStreamIsCapturing(void* stream, int* status)
{
    NEEDS_CONTEXT;
    const Stream* at = static_cast<Stream*>(stream);
    *status = at == nullptr || !at->capturing ? 0 : at->invalid ? 2 : 1;
    return SUCCESS;
}
Status cuLaunchHostFunc(void* stream, void (*function)(void*), void* argument)
{
    NEEDS_CONTEXT;
    queue(stream, [=] { function(argument); });
    return SUCCESS;
}
Status cuStreamEndCapture(void* stream, void** graph)
{
    NEEDS_CONTEXT;
    LOCKED;
    Stream* at = static_cast<Stream*>(stream);
    if (!at->capturing) return ILLEGAL_STATE;
    at->capturing = false;
    *graph = nullptr;
    if (at->invalid) return CAPTURE_INVALIDATED;
    make<Graph>(graphs, graph);
    static_cast<Graph*>(*graph)->work = std::move(at->recorded);
    static_cast<Graph*>(*graph)->images = at->images;
    return SUCCESS;
}
Status cuGraphInstantiateWithFlags(void** executable, void* graph, unsigned long long)
{
    NEEDS_CONTEXT;
    LOCKED;
    make<Graph>(executables, executable);
    *static_cast<Graph*>(*executable) = *static_cast<Graph*>(graph);
    return SUCCESS;
}
Status cuGraphDestroy(void* graph) { LOCKED; return destroy<Graph>(graphs, graph); }
Status cuGraphExecDestroy(void* graph) { LOCKED; return destroy<Graph>(executables, graph); }
Status cuGraphLaunch(void* graph, void* stream)
{
    NEEDS_CONTEXT;
    if (const unsigned images = timed ? static_cast<Graph*>(graph)->images : 0) {
        take_time(stream, runs_end, graph_ms + image_ms * images);
        return SUCCESS;
    }
    for (const auto& work : static_cast<Graph*>(graph)->work) work();
    return SUCCESS;
}
Status cuEventCreate(void** out, unsigned) { NEEDS_CONTEXT; LOCKED; return make<Event>(events, out); }
Status cuEventDestroy(void* event) { NEEDS_CONTEXT; LOCKED; return destroy<Event>(events, event); }
Status cuEventRecord(void* event, void* stream)
{
    NEEDS_CONTEXT;
    if (event == nullptr) return INVALID_HANDLE;
    const Stream* at = static_cast<Stream*>(stream);
    const bool is_own = (size_t)stream > 2;  // 1 and 2 are the default streams
    static_cast<Event*>(event)->at = timed && is_own ? std::max(at->ends, now()) : now();
    return SUCCESS;
}
Status cuEventRecordWithFlags(void* event, void* stream, unsigned flags)
{
    NEEDS_CONTEXT;
    if (flags == 1 && !static_cast<Stream*>(stream)->capturing) return INVALID_VALUE;  // external marks are for graphs
    queue(stream, [=] { static_cast<Event*>(event)->at = now(); });
    return SUCCESS;
}
Status cuEventSynchronize(void* event)
{
    NEEDS_CONTEXT;
    if (timed) sleep_until(static_cast<Event*>(event)->at);
    return SUCCESS;
}
Status cuEventElapsedTime(float* ms, void* start, void* end)
{
    *ms = (float)(static_cast<Event*>(end)->at - static_cast<Event*>(start)->at);
    return SUCCESS;
}
Status cuModuleLoadData(void** module, const void* image)
{
    NEEDS_CONTEXT;
    LOCKED;
    if (std::memcmp(image, "\x7f" "ELF", 4) != 0) return 200;
    const Status status = make<Module>(modules, module);
    static_cast<Module*>(*module)->context = contexts.back();
    return status;
}
Status cuModuleUnload(void* module) { NEEDS_CONTEXT; LOCKED; return destroy<Module>(modules, module); }
Status cuModuleGetFunction(void** function, void* module, const char* name)
{
    static std::map<std::pair<void*, std::string>, Function> functions;
    LOCKED;
    void* context = static_cast<Module*>(module)->context;
    const std::string launch = std::string("launch_") + name, kinds = std::string("kinds_") + name;
    void* library = own_library();
    void* found = dlsym(library, launch.c_str());
    if (found == nullptr) return NOT_FOUND;
    Function& made = functions[{context, name}];
    made.name = name;
    made.context = context;
    made.kinds = *static_cast<const char**>(dlsym(library, kinds.c_str()));
    made.launch = reinterpret_cast<decltype(made.launch)>(found);
    *function = &made;
    return SUCCESS;
}
Status cuLaunchKernel(void* function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                      unsigned, void* stream, void** arguments, void**)
{
    NEEDS_CONTEXT;
    const Function* kernel = static_cast<Function*>(function);
    if (stream != nullptr && static_cast<Stream*>(stream)->context != contexts.back()) return INVALID_HANDLE;
    if (kernel->context != contexts.back()) return INVALID_HANDLE;
    if (gy > 65535 || gz > 65535 || bx * by * bz > 1024 || !(gx && gy && gz && bx && by && bz)) return INVALID_VALUE;
    if (Stream* at = static_cast<Stream*>(stream); at != nullptr && at->capturing && kernel->name.find("letterbox") == 0)
        at->images = gz;
    std::vector<uint64_t> copied(kernel->kinds.size());
    for (size_t i = 0; i < copied.size(); ++i) std::memcpy(&copied[i], arguments[i], kernel->kinds[i] == 'p' ? 8 : 4);
    queue(stream, [=]() mutable {
        const Hidden one_kernel_at_a_time(device_of(kernel->context));
        std::vector<void*> addresses;
        for (uint64_t& value : copied) addresses.push_back(&value);
        const unsigned grid[3] = {gx, gy, gz}, block[3] = {bx, by, bz};
        if (kernel->launch(grid, block, seed++, addresses.data()) != 0) std::abort();
    });
    return SUCCESS;
}
struct LaunchConfig { unsigned grid[3], block[3], shared; void* stream; const void* attributes; unsigned attribute_count; };
Status cuLaunchKernelEx(const LaunchConfig* config, void* function, void** arguments, void** extra)
{
    const unsigned *grid = config->grid, *block = config->block;
    return cuLaunchKernel(
        function, grid[0], grid[1], grid[2], block[0], block[1], block[2], config->shared, config->stream, arguments, extra);
}
Status cuGetProcAddress_v2(const char* symbol, void** found, int, uint64_t, int* result)
{
    *found = std::strcmp(symbol, "cuGetProcAddress") == 0 ? (void*)&cuGetProcAddress_v2 : dlsym(own_library(), symbol);
    if (result != nullptr) *result = *found != nullptr ? 0 : 1;
    return *found != nullptr ? SUCCESS : NOT_FOUND;
}
Status cuGetProcAddress(const char* symbol, void** found, int version, uint64_t flags)
{
    return cuGetProcAddress_v2(symbol, found, version, flags, nullptr);
}
}
