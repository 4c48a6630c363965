// Frames from pinned host memory to the device, by loads over the bus.
//
// What the host's cores have just written lies in their caches, and a copy engine gets it from there at less than half of
// the bus's speed; loads of all multiprocessors at once, 16 bytes each and neighbouring ones by neighbouring threads, get
// it faster (measured, bench/results/). The last load of a frame may take up to 15 bytes behind it, from the same 16.

#include "common.cuh"

enum { TOGETHER_UNITS = 4 };  // loads that a thread has under way

// A grid of any number of blocks × images. Frames that lie where they are read already have no source.
extern "C" __global__ void fetch_frames(const Frame* frames)
{
    const Frame& frame = frames[blockIdx.y];
    const uint4* source = reinterpret_cast<const uint4*>(frame.source);
    if (source == nullptr) return;
    uint4* target = reinterpret_cast<uint4*>(const_cast<u8*>(frame.data));
    const size_t units = ((size_t)frame.pitch * frame.height + 15) / 16;
    const size_t step = (size_t)gridDim.x * blockDim.x;
#pragma unroll 1
    for (size_t unit = (size_t)blockIdx.x * blockDim.x + threadIdx.x; unit < units; unit += TOGETHER_UNITS * step) {
        uint4 fetched[TOGETHER_UNITS];
#pragma unroll
        for (int turn = 0; turn < TOGETHER_UNITS; ++turn) {
            if (unit + turn * step < units) fetched[turn] = source[unit + turn * step];
        }
#pragma unroll
        for (int turn = 0; turn < TOGETHER_UNITS; ++turn) {
            if (unit + turn * step < units) target[unit + turn * step] = fetched[turn];
        }
    }
}
