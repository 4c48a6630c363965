// From the network's output to candidate boxes, one for each cell and anchor.
//
// Undecoded maps (heads): level l is (B, A·(5 + C + E), h, w) of logits t, σ(t) = 1 / (1 + e^−t), and for anchor a at
// row y, column x, in float32 and in this order of operations:
//
//     cx = (2·σ(t₀) − ½ + x)·stride        w = (2·σ(t₂))²·anchor_w
//     cy = (2·σ(t₁) − ½ + y)·stride        h = (2·σ(t₃))²·anchor_h
//     objectness o = σ(t₄),   score = max over c of σ(t₅₊c)·o, the first class that reaches it.
//
// Decoded rows (raw): (B, N, 5 + C + E) holds cx, cy, w, h, o and the class scores already. The last E columns are read
// by extras.cu, for the candidates that are kept.
//
// A candidate counts if o and score both exceed the threshold, its best class is allowed, and its corners
// (cx ∓ ½w, cy ∓ ½h) are finite. NaN exceeds nothing. One NaN among the class scores discards the candidate, as NumPy's
// argmax does. Candidates are written in no particular order. Their index (level, anchor, row, column) is written with
// them, and nms.cu sorts them. Candidates beyond the capacity are counted but not written.
//
// Nearly all cells are dropped by their objectness, which one thread reads for each cell. The few that pass are
// collected for the block, and LANES threads share the classes of each, because a single thread would wait for memory
// many times. Code is kept short, because a kernel that runs once between two networks finds its instructions in no
// cache.

#include "candidates.cuh"

enum { MAX_ANCHORS = 8, BLOCK = 128, LANES = 16, GROUPS_OF_WARP = 32 / LANES, TOGETHER = 5 };

// One undecoded map. Mirrors LEVEL_DTYPE in postprocess.py, byte for byte.
struct Level {
    const void* data;  // (B, anchors·columns, height, width)
    int height;        // in cells
    int width;
    int first;         // index of its first candidate
    int anchors;
    float stride;      // model pixels per cell
    int reserved;
    float sizes[MAX_ANCHORS][2];  // anchor width, height in model pixels
};
static_assert(sizeof(Level) == 96, "Level and LEVEL_DTYPE have drifted apart");

// The values of one candidate: value v is at first[v·step], in the order cx, cy, w, h, o, classes.
template <typename Value>
struct Values { const Value* first; size_t step; };

struct Box { float cx, cy, w, h; };

// The undecoded maps of one image.
template <typename Value>
struct HeadsOutput {
    typedef Value value_type;
    static const bool LOGITS = true;
    struct Place { const Level* level; int anchor, cell; };

    const Level* levels;  // in shared memory
    int level_count;
    int classes;
    int columns;  // of a candidate: 5 + classes, and whatever follows
    int image;

    __device__ __forceinline__ Place place(int index) const
    {
        const Level* level = level_of(levels, level_count, index);
        const int plane = level->height * level->width;
        const int anchor = (index - level->first) / plane;
        const Place found = {level, anchor, index - level->first - anchor * plane};
        return found;
    }

    __device__ __forceinline__ Values<Value> values(const Place& place) const
    {
        const Level& level = *place.level;
        const int plane = level.height * level.width;
        const Value* maps = static_cast<const Value*>(level.data);
        const size_t map = (size_t)(image * level.anchors + place.anchor) * columns;
        const Values<Value> found = {maps + map * plane + place.cell, (size_t)plane};
        return found;
    }

    __device__ __forceinline__ Box box(const Place& place, float x, float y, float w, float h) const
    {
        const Level& level = *place.level;
        const int row = place.cell / level.width;
        const int column = place.cell - row * level.width;
        const float across = w * 2.0f;
        const float down = h * 2.0f;
        Box found;
        found.cx = (x * 2.0f - 0.5f + (float)column) * level.stride;
        found.cy = (y * 2.0f - 0.5f + (float)row) * level.stride;
        found.w = across * across * level.sizes[place.anchor][0];
        found.h = down * down * level.sizes[place.anchor][1];
        return found;
    }
};

// The decoded rows of one image.
template <typename Value>
struct RawOutput {
    typedef Value value_type;
    static const bool LOGITS = false;
    struct Place { int index; };

    const Value* rows;
    int classes;
    int columns;

    __device__ __forceinline__ Place place(int index) const
    {
        const Place found = {index};
        return found;
    }

    __device__ __forceinline__ Values<Value> values(const Place& place) const
    {
        const Values<Value> found = {rows + (size_t)place.index * columns, 1};
        return found;
    }

    __device__ __forceinline__ Box box(const Place&, float x, float y, float w, float h) const
    {
        const Box found = {x, y, w, h};
        return found;
    }
};

// The best of the classes `lane`, `lane + LANES`, … TOGETHER of them are fetched before the first is compared.
template <bool LOGITS, typename Value>
__device__ __forceinline__ Best best_of(const Values<Value>& values, int lane, int classes, float objectness)
{
    Best best = {-1.0f, 0};
#pragma unroll 1
    for (int first = lane; first < classes; first += LANES * TOGETHER) {
        float fetched[TOGETHER];
#pragma unroll
        for (int turn = 0; turn < TOGETHER; ++turn) {
            const int id = first + turn * LANES;
            fetched[turn] = to_float(values.first[(5 + (id < classes ? id : first)) * values.step]);
        }
#pragma unroll
        for (int turn = 0; turn < TOGETHER; ++turn) {
            const int id = first + turn * LANES;
            const Best here = {(LOGITS ? sigmoid(fetched[turn]) : fetched[turn]) * objectness, id};
            if (id < classes) best = better(best, here);
        }
    }
    return best;
}

__device__ __forceinline__ void keep(
    const CandidateBuffers& out, int image, int index, const Best& best, const Box& found)
{
    const float half_w = found.w * 0.5f;
    const float half_h = found.h * 0.5f;
    const float4 box = make_float4(found.cx - half_w, found.cy - half_h, found.cx + half_w, found.cy + half_h);
    keep_box(out, image, index, best, box);
}

// One block's cells of one image. It is launched with BLOCK threads.
template <typename Output>
__device__ __forceinline__ void decode(
    const Output& output, int cells, float threshold, const u32* allowed, const CandidateBuffers& out)
{
    __shared__ int survivors[BLOCK];
    __shared__ float objectnesses[BLOCK];
    __shared__ u32 survivor_count;
    const int thread = threadIdx.x;
    let_the_next_begin();
    if (thread == 0) survivor_count = 0;
    __syncthreads();

    const int own = blockIdx.x * BLOCK + thread;
    if (own < cells) {
        const Values<typename Output::value_type> values = output.values(output.place(own));
        const float value = to_float(values.first[4 * values.step]);
        const float objectness = Output::LOGITS ? sigmoid(value) : value;
        if (objectness > threshold) {
            const u32 at = atomicAdd(&survivor_count, 1u);
            survivors[at] = own;
            objectnesses[at] = objectness;
        }
    }
    __syncthreads();

    const int count = (int)survivor_count;
    const int lane_of_warp = thread & 31;
    const int lane = thread % LANES;
    const int leader = lane_of_warp - lane;
    // A warp loops as often as its first group has work. A group without work repeats the last survivor, without effect.
#pragma unroll 1
    for (int first = thread / 32 * GROUPS_OF_WARP; first < count; first += BLOCK / LANES) {
        const int at = first + leader / LANES;
        const int chosen = at < count ? at : count - 1;
        const int index = survivors[chosen];
        const typename Output::Place place = output.place(index);
        const Values<typename Output::value_type> values = output.values(place);
        const float side = lane < 4 ? to_float(values.first[lane * values.step]) : 0.0f;
        Best best = best_of<Output::LOGITS>(values, lane, output.classes, objectnesses[chosen]);
#pragma unroll 1
        for (int distance = LANES / 2; distance > 0; distance >>= 1) {
            Best other;
            other.score = from_lane(best.score, lane_of_warp ^ distance);
            other.class_id = __shfl_sync(0xffffffffu, best.class_id, lane_of_warp ^ distance);
            best = better(best, other);
        }
        const float part = Output::LOGITS ? sigmoid(side) : side;
        const float x = from_lane(part, leader);
        const float y = from_lane(part, leader + 1);
        const float w = from_lane(part, leader + 2);
        const float h = from_lane(part, leader + 3);
        if (lane == 0 && at < count && best.score > threshold && is_allowed(allowed, best.class_id)) {
            keep(out, blockIdx.y, index, best, output.box(place, x, y, w, h));
        }
    }
}

template <typename Value>
__device__ __forceinline__ void decode_heads(
    const Level* levels, int level_count, int extras, int cells, int classes, float threshold, const u32* allowed,
    const CandidateBuffers& out)
{
    __shared__ Level table[MAX_LEVELS];
    fetch_levels(levels, level_count, table);
    const HeadsOutput<Value> output = {table, level_count, classes, 5 + classes + extras, (int)blockIdx.y};
    decode(output, cells, threshold, allowed, out);  // its first barrier completes the table
}

template <typename Value>
__device__ __forceinline__ void decode_raw(
    const Value* raw, int extras, int cells, int classes, float threshold, const u32* allowed, const CandidateBuffers& out)
{
    const int columns = 5 + classes + extras;
    const RawOutput<Value> output = {raw + (size_t)blockIdx.y * cells * columns, classes, columns};
    decode(output, cells, threshold, allowed, out);
}

extern "C" __global__ void decode_heads_f32(
    const Level* levels, int level_count, int extras, int cells, int classes, float threshold, const u32* allowed,
    float4* boxes, float* scores, int* class_ids, int* indices, u32* counts, int capacity)
{
    const CandidateBuffers out = {boxes, scores, class_ids, indices, counts, capacity};
    decode_heads<float>(levels, level_count, extras, cells, classes, threshold, allowed, out);
}

extern "C" __global__ void decode_heads_f16(
    const Level* levels, int level_count, int extras, int cells, int classes, float threshold, const u32* allowed,
    float4* boxes, float* scores, int* class_ids, int* indices, u32* counts, int capacity)
{
    const CandidateBuffers out = {boxes, scores, class_ids, indices, counts, capacity};
    decode_heads<half_bits>(levels, level_count, extras, cells, classes, threshold, allowed, out);
}

extern "C" __global__ void decode_raw_f32(
    const float* raw, int extras, int cells, int classes, float threshold, const u32* allowed,
    float4* boxes, float* scores, int* class_ids, int* indices, u32* counts, int capacity)
{
    const CandidateBuffers out = {boxes, scores, class_ids, indices, counts, capacity};
    decode_raw(raw, extras, cells, classes, threshold, allowed, out);
}

extern "C" __global__ void decode_raw_f16(
    const half_bits* raw, int extras, int cells, int classes, float threshold, const u32* allowed,
    float4* boxes, float* scores, int* class_ids, int* indices, u32* counts, int capacity)
{
    const CandidateBuffers out = {boxes, scores, class_ids, indices, counts, capacity};
    decode_raw(raw, extras, cells, classes, threshold, allowed, out);
}
