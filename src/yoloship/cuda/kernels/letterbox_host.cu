// From a frame in pinned host memory to the model's input, in one launch: fetched over the bus, and letterboxed as it comes.
//
// A band of the canvas belongs to a block. It fetches the source rows that bilinear interpolation weighs there into shared
// memory, 16 bytes a load with neighbouring threads reading neighbouring bytes, and computes the band from there.

#include "letterbox.cuh"

enum { MAX_BAND = 32, STAGED_BYTES = 40960, BUS_UNIT = 16, FETCHED_TOGETHER = 4 };

// Source rows that lie one after the other, and where their first byte is in shared memory.
struct SourceRows { int first, last, at; };

// What a row of the band is made of: its two source rows in shared memory, −1 if it is outside the image.
struct BandRow { int upper, lower; Tap tap; };

// A grid of ⌈height / band⌉ blocks. `frames` has one frame, packed and upright; a row of it and its neighbour fit into
// STAGED_BYTES `band` times.
template <typename Out>
__device__ __forceinline__ void letterbox_host(
    const Frame* frames, Out* out, int height, int width, int padding, int band)
{
    __shared__ uint4 staged[STAGED_BYTES / BUS_UNIT];
    __shared__ BandRow rows[MAX_BAND];
    __shared__ SourceRows spans[MAX_BAND];
    __shared__ Frame frame;
    __shared__ int span_count;
    const int thread = threadIdx.x;
    const int threads = blockDim.x;
    const int top = blockIdx.x * band;
    if (thread < (int)(sizeof(Frame) / 4)) {
        reinterpret_cast<u32*>(&frame)[thread] = reinterpret_cast<const u32*>(frames)[thread];
    }
    __syncthreads();

    if (thread < band) {
        const int row = top + thread - frame.top;
        rows[thread].upper = -1;
        if (row >= 0 && row < frame.resized_height && top + thread < height) {
            Tap tap = tap_at(row, frame.scale_y, frame.height, false);
            if (tap.second_weight == 0) tap.second = tap.first;  // rows without weight are not fetched
            if (tap.first_weight == 0) tap.first = tap.second;
            rows[thread].upper = 0;
            rows[thread].tap = tap;
        }
    }
    __syncthreads();

    if (thread == 0) {
        int count = 0;
        int end = 0;  // of the last span in shared memory
        const u64 data = (u64)(size_t)frame.data;
#pragma unroll 1
        for (int at = 0; at < band; ++at) {
            BandRow& row = rows[at];
            if (row.upper < 0) continue;
            if (count == 0 || row.tap.first > spans[count - 1].last + 1) {
                // The bytes keep their place within a unit.
                const int shift = (int)((data + (u64)row.tap.first * (u64)frame.pitch) % BUS_UNIT);
                spans[count].first = row.tap.first;
                spans[count].last = row.tap.first;
                spans[count].at = (end + BUS_UNIT - 1) / BUS_UNIT * BUS_UNIT + shift;
                ++count;
            }
            SourceRows& span = spans[count - 1];
            if (row.tap.second > span.last) span.last = row.tap.second;
            if (row.tap.first > span.last) span.last = row.tap.first;
            end = span.at + (span.last - span.first + 1) * frame.pitch;
            row.upper = span.at + (row.tap.first - span.first) * frame.pitch;
            row.lower = span.at + (row.tap.second - span.first) * frame.pitch;
        }
        span_count = count;
    }
    __syncthreads();

#pragma unroll 1
    for (int at = 0; at < span_count; ++at) {
        const SourceRows span = spans[at];
        const int shift = span.at % BUS_UNIT;
        const u8* begin = frame.data + (size_t)span.first * frame.pitch - shift;
        const uint4* source = reinterpret_cast<const uint4*>(begin);
        uint4* target = staged + span.at / BUS_UNIT;
        const int units = (shift + (span.last - span.first) * frame.pitch + 3 * frame.width + BUS_UNIT - 1) / BUS_UNIT;
#pragma unroll 1
        for (int unit = thread; unit < units; unit += FETCHED_TOGETHER * threads) {
            uint4 fetched[FETCHED_TOGETHER];
#pragma unroll
            for (int turn = 0; turn < FETCHED_TOGETHER; ++turn) {
                const int from = unit + turn * threads;
                if (from < units) fetched[turn] = source[from];
            }
#pragma unroll
            for (int turn = 0; turn < FETCHED_TOGETHER; ++turn) {
                const int from = unit + turn * threads;
                if (from < units) target[from] = fetched[turn];
            }
        }
    }
    __syncthreads();

    const u8* bytes = reinterpret_cast<const u8*>(staged);
    const Pixel grey = {padding, padding, padding};
#pragma unroll 1
    for (int x = thread; x < width; x += threads) {
        const int column = x - frame.left;
        const bool inside_x = column >= 0 && column < frame.resized_width;
        const Tap across = tap_at(inside_x ? column : 0, frame.scale_x, frame.width, true);
        const u8* left = bytes + 3 * across.first;
        const u8* right = bytes + 3 * across.second;
#pragma unroll 1
        for (int at = 0; at < band && top + at < height; ++at) {
            const BandRow& row = rows[at];
            Pixel pixel = grey;
            if (inside_x && row.upper >= 0) {
                const u8* a = left + row.upper;
                const u8* b = right + row.upper;
                const u8* c = left + row.lower;
                const u8* d = right + row.lower;
                pixel.blue = blend(a[0], b[0], c[0], d[0], row.tap, across);
                pixel.green = blend(a[1], b[1], c[1], d[1], row.tap, across);
                pixel.red = blend(a[2], b[2], c[2], d[2], row.tap, across);
                in_order(frame, pixel);
            }
            put(out, 0, top + at, x, height, width, pixel);
        }
    }
}

extern "C" __global__ void letterbox_host_f32(
    const Frame* frames, float* out, int height, int width, int padding, int band)
{
    letterbox_host(frames, out, height, width, padding, band);
}

extern "C" __global__ void letterbox_host_f16(
    const Frame* frames, half_bits* out, int height, int width, int padding, int band)
{
    letterbox_host(frames, out, height, width, padding, band);
}

extern "C" __global__ void letterbox_host_u8(
    const Frame* frames, u8* out, int height, int width, int padding, int band)
{
    letterbox_host(frames, out, height, width, padding, band);
}
