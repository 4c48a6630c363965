// A small CUDA device made of loops: enough to run the kernels' own source on a CPU, in a test.
//
// Each thread of a block is a fiber with a stack of its own. A fiber runs until it meets a barrier; when all that are
// still alive (in the block, or in the warp) wait at theirs, they go on. Fibers are resumed in an order shuffled by a
// seed, and blocks too, so whatever depends on the order of atomics shows. A barrier that not all reach is an error,
// not a hang. A fiber is started once and runs one block after the other; between fibers it goes by _setjmp and _longjmp,
// because swapcontext asks the system for the signal mask each time. Float arithmetic is the CPU's own, compiled without contraction, as the kernels are.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <random>
#include <vector>
#include <memory>
#include <setjmp.h>
#include <ucontext.h>

#define __global__
#define __device__
#define __forceinline__ inline
#define __noinline__
#define __shared__ static

struct uint3 { unsigned x, y, z; };
struct float4 { float x, y, z, w; };
struct uint4 { unsigned x, y, z, w; };
inline float4 make_float4(float x, float y, float z, float w) { return float4{x, y, z, w}; }

static uint3 threadIdx, blockIdx, blockDim, gridDim;

struct half_bits { uint16_t bits; };
inline float to_float(half_bits value) { _Float16 half; std::memcpy(&half, &value, 2); return (float)half; }
inline half_bits to_half(float value)
{
    const _Float16 half = (_Float16)value;
    half_bits result;
    std::memcpy(&result, &half, 2);
    return result;
}

inline int __float2int_rn(float value) { return (int)std::nearbyint(value); }
inline float __uint_as_float(unsigned bits) { float value; std::memcpy(&value, &bits, 4); return value; }
inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline unsigned __byte_perm(unsigned low, unsigned high, unsigned chosen)
{
    const uint64_t bytes = (uint64_t)high << 32 | low;
    unsigned result = 0;
    for (int i = 0; i < 4; ++i) result |= (unsigned)(bytes >> 8 * (chosen >> 4 * i & 7) & 255) << 8 * i;
    return result;
}
inline int __clz(unsigned bits) { return bits == 0 ? 32 : __builtin_clz(bits); }
inline void __threadfence() {}  // one thread runs at a time
inline void wait_for_the_one_ahead() {}
inline void let_the_next_begin() {}
inline unsigned __float_as_uint(float value) { unsigned bits; std::memcpy(&bits, &value, 4); return bits; }
template <typename T> T atomicOr(T* at, T value) { const T old = *at; *at = old | value; return old; }
template <typename T> T atomicMin(T* at, T value) { const T old = *at; *at = value < old ? value : old; return old; }
template <typename T> T atomicAdd(T* at, T value) { const T old = *at; *at = (T)(old + value); return old; }

namespace emulator {

enum State { READY, AT_BLOCK_BARRIER, AT_WARP_BARRIER, DONE };

struct Fiber {
    unsigned number = 0;
    bool started = false;
    jmp_buf place;  // where it goes on, once it is started
    ucontext_t context;
    std::vector<char> stack = std::vector<char>(64 * 1024);
    uint3 index{};
    State state = READY;
    unsigned exchanges = 0;  // warp operations so far: two alternating sets of slots suffice
};

static std::vector<std::unique_ptr<Fiber>> fibers;
static ucontext_t scheduler_context;
static jmp_buf scheduler;
static Fiber* running = nullptr;
static std::vector<uint64_t> slots;  // [warp][parity][lane]
static std::function<void()> body;

inline void leave() { if (_setjmp(running->place) == 0) _longjmp(scheduler, 1); }

inline void wait(State at)
{
    if (running == nullptr) { std::fprintf(stderr, "barrier in a kernel run without fibers\n"); std::abort(); }
    running->state = at;
    leave();
}

inline unsigned linear() { return running->number; }

// Every live lane of the warp gives a value; afterwards all slots of this exchange can be read.
inline const uint64_t* exchange(uint64_t value)
{
    const unsigned warp = linear() / 32, lane = linear() % 32;
    uint64_t* set = &slots[(warp * 2 + running->exchanges++ % 2) * 32];
    set[lane] = value;
    wait(AT_WARP_BARRIER);
    return set;
}

inline void enter()
{
    for (;;) { body(); wait(DONE); }
}

// Let a fiber run until it waits or is done.
inline void resume(Fiber& fiber)
{
    running = &fiber;
    threadIdx = fiber.index;
    if (_setjmp(scheduler) == 0) {
        if (fiber.started) _longjmp(fiber.place, 1);
        fiber.started = true;
        swapcontext(&scheduler_context, &fiber.context);
    }
}

inline int run_block(std::mt19937& random)
{
    const unsigned threads = blockDim.x * blockDim.y * blockDim.z;
    while (fibers.size() < threads) {
        fibers.push_back(std::make_unique<Fiber>());
        Fiber& fiber = *fibers.back();
        fiber.number = (unsigned)fibers.size() - 1;
        getcontext(&fiber.context);
        fiber.context.uc_stack.ss_sp = fiber.stack.data();
        fiber.context.uc_stack.ss_size = fiber.stack.size();
        fiber.context.uc_link = nullptr;
        makecontext(&fiber.context, enter, 0);
    }
    slots.assign((threads + 31) / 32 * 64, 0);
    std::vector<unsigned> order(threads);
    for (unsigned i = 0; i < threads; ++i) {
        Fiber& fiber = *fibers[i];
        fiber.state = READY;
        fiber.exchanges = 0;
        fiber.index = uint3{i % blockDim.x, i / blockDim.x % blockDim.y, i / blockDim.x / blockDim.y};
        order[i] = i;
    }
    std::shuffle(order.begin(), order.end(), random);
    for (;;) {
        for (unsigned i : order) {
            if (fibers[i]->state == READY) resume(*fibers[i]);
        }
        running = nullptr;
        bool live = false, released = false, all_at_block = true;
        for (unsigned first = 0; first < threads; first += 32) {
            unsigned alive = 0, at_warp = 0;
            for (unsigned i = first; i < std::min(first + 32, threads); ++i) {
                if (fibers[i]->state == DONE) continue;
                ++alive;
                if (fibers[i]->state == AT_WARP_BARRIER) ++at_warp;
                if (fibers[i]->state != AT_BLOCK_BARRIER) all_at_block = false;
            }
            live = live || alive != 0;
            if (alive != 0 && alive == at_warp) {
                for (unsigned i = first; i < std::min(first + 32, threads); ++i)
                    if (fibers[i]->state == AT_WARP_BARRIER) fibers[i]->state = READY;
                released = true;
            }
        }
        if (!live) return 0;
        if (!released && all_at_block) {
            for (unsigned i = 0; i < threads; ++i) if (fibers[i]->state == AT_BLOCK_BARRIER) fibers[i]->state = READY;
            released = true;
        }
        if (!released) {  // some threads wait at a barrier that the others never reach: they go on in no other block
            fibers.clear();
            return 1;
        }
    }
}

// Returns 0, or 1 where a barrier was not reached by all.
inline int launch(const unsigned* grid, const unsigned* block, unsigned seed, bool with_fibers, std::function<void()> kernel)
{
    gridDim = uint3{grid[0], grid[1], grid[2]};
    blockDim = uint3{block[0], block[1], block[2]};
    body = std::move(kernel);
    std::mt19937 random(seed);
    std::vector<unsigned> order(grid[0] * grid[1] * grid[2]);
    for (unsigned i = 0; i < order.size(); ++i) order[i] = i;
    std::shuffle(order.begin(), order.end(), random);
    for (unsigned i : order) {
        blockIdx = uint3{i % grid[0], i / grid[0] % grid[1], i / grid[0] / grid[1]};
        if (with_fibers) {
            if (run_block(random)) return 1;
            continue;
        }
        for (unsigned z = 0; z < block[2]; ++z)
            for (unsigned y = 0; y < block[1]; ++y)
                for (unsigned x = 0; x < block[0]; ++x) { threadIdx = uint3{x, y, z}; body(); }
    }
    return 0;
}

struct Pointer {  // takes on whatever pointer type the kernel's parameter has
    void* address;
    template <typename T> operator T*() const { return static_cast<T*>(address); }
};

}  // namespace emulator

inline void __syncthreads() { emulator::wait(emulator::AT_BLOCK_BARRIER); }
inline void __syncwarp() { emulator::exchange(0); }
inline unsigned __ballot_sync(unsigned, bool vote)
{
    const uint64_t* votes = emulator::exchange(vote ? 1 : 0);
    unsigned bits = 0;
    for (int lane = 0; lane < 32; ++lane) bits |= (votes[lane] ? 1u : 0u) << lane;
    return bits;
}
template <typename T> T __shfl_sync(unsigned, T value, int lane)
{
    return (T)emulator::exchange((uint64_t)value)[lane];
}
