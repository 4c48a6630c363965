// Frames from pinned host memory to the device, by loads over the bus.
//
// Data that the host's cores have just written is in their caches. A copy engine reads it from there at less than half
// of the bus's speed. Loads of all multiprocessors at once, 16 bytes each, with neighbouring threads reading neighbouring
// bytes, are faster (measured, bench/results/). The last load of a frame may read up to 15 bytes after its end, in the
// same block of 16.

#include "common.cuh"

enum { TOGETHER_UNITS = 4 };  // loads that a thread has in flight

// A grid of any number of blocks × images. Frames without a source are in place already.
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
