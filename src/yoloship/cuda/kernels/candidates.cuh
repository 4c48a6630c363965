// What the decoding kernels share: where values lie, which candidates count, and how they are written.

#pragma once

#include "common.cuh"

enum { MAX_LEVELS = 8 };

__device__ __forceinline__ float sigmoid(float t) { return 1.0f / (1.0f + expf(-t)); }

struct Best { float score; int class_id; };

// The better of two classes; of equal ones, the first. NaN beats all others, and a later comparison drops it.
__device__ __forceinline__ Best better(const Best& a, const Best& b)
{
    if (a.score != a.score) return a;
    if (b.score != b.score) return b;
    if (a.score != b.score) return a.score > b.score ? a : b;
    return a.class_id <= b.class_id ? a : b;
}

__device__ __forceinline__ float from_lane(float value, int lane)
{
    return __uint_as_float(__shfl_sync(0xffffffffu, __float_as_uint(value), lane));
}

__device__ __forceinline__ bool is_allowed(const u32* allowed, int class_id)
{
    return allowed == nullptr || ((allowed[class_id >> 5] >> (class_id & 31)) & 1u) != 0u;
}

struct CandidateBuffers {
    float4* boxes;
    float* scores;
    int* class_ids;
    int* indices;
    u32* counts;  // for each image: how many passed, written or not
    int capacity;
};

// Writes a candidate and returns where; NOWHERE if its box is not finite or there is no room.
enum : size_t { NOWHERE = ~(size_t)0 };

__device__ __forceinline__ size_t keep_box(
    const CandidateBuffers& out, int image, int index, const Best& best, const float4& box)
{
    if (!(finite(box.x) && finite(box.y) && finite(box.z) && finite(box.w))) return NOWHERE;
    const u32 slot = atomicAdd(&out.counts[image], 1u);
    if (slot >= (u32)out.capacity) return NOWHERE;
    const size_t at = (size_t)image * out.capacity + slot;
    out.boxes[at] = box;
    out.scores[at] = best.score;
    out.class_ids[at] = best.class_id;
    out.indices[at] = index;
    return at;
}

// Copies a table of levels to shared memory. A barrier must follow.
template <typename Level>
__device__ __forceinline__ void fetch_levels(const Level* levels, int level_count, Level* table)
{
    const int words = level_count * (int)(sizeof(Level) / 4);
#pragma unroll 1
    for (int word = threadIdx.x; word < words; word += blockDim.x) {
        reinterpret_cast<u32*>(table)[word] = reinterpret_cast<const u32*>(levels)[word];
    }
}

// The level of a candidate.
template <typename Level>
__device__ __forceinline__ const Level* level_of(const Level* levels, int level_count, int index)
{
    const Level* level = levels;
#pragma unroll 1
    while (level + 1 < levels + level_count && index >= level[1].first) ++level;
    return level;
}
