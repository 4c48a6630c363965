// From the network's output to candidate boxes: one thread for each cell and anchor.
//
// Undecoded maps (heads): level l is (B, A·(5 + C), h, w) of logits t, σ(t) = 1 / (1 + e^−t), and for anchor a at
// row y, column x, in float32 and in this order of operations:
//
//     cx = (2·σ(t₀) − ½ + x)·stride        w = (2·σ(t₂))²·anchor_w
//     cy = (2·σ(t₁) − ½ + y)·stride        h = (2·σ(t₃))²·anchor_h
//     objectness o = σ(t₄),   score = max over c of σ(t₅₊c)·o, the first class that reaches it.
//
// Decoded rows (raw): (B, N, 5 + C) holds cx, cy, w, h, o and the class scores already.
//
// A candidate counts where o and score both exceed the threshold, its best class is allowed, and its corners
// (cx ∓ ½w, cy ∓ ½h) are finite. NaN exceeds nothing, and one NaN among the class scores discards the candidate, as it
// does in NumPy's argmax. Candidates land in no particular order: their index (level, anchor, row, column) goes with
// them, and nms.cu sorts. Those past the capacity are counted, not written.

#include "common.cuh"

enum { MAX_ANCHORS = 8 };

// One undecoded map. Mirrors LEVEL_DTYPE in postprocess.py, byte for byte.
struct Level {
    const void* data;  // (B, anchors·(5 + classes), height, width)
    int height;        // in cells
    int width;
    int first;         // index of its first candidate
    int anchors;
    float stride;      // model pixels for one cell
    int reserved;
    float sizes[MAX_ANCHORS][2];  // anchor width, height in model pixels
};
static_assert(sizeof(Level) == 96, "Level and LEVEL_DTYPE have drifted apart");

__device__ __forceinline__ float sigmoid(float t) { return 1.0f / (1.0f + expf(-t)); }

struct Best { float score; int class_id; };

// `step` apart lie the values of one candidate; `scores` points at class 0.
template <bool LOGITS, typename Value>
__device__ __forceinline__ Best best_class(const Value* scores, size_t step, int classes, float objectness)
{
    Best best = {-1.0f, 0};
#pragma unroll 4
    for (int id = 0; id < classes; ++id) {
        const float value = to_float(scores[id * step]);
        const float score = (LOGITS ? sigmoid(value) : value) * objectness;
        if (score != score) return Best{score, id};
        if (score > best.score || id == 0) best = Best{score, id};
    }
    return best;
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

__device__ __forceinline__ void keep(
    const CandidateBuffers& out, int image, int index, const Best& best, float cx, float cy, float w, float h)
{
    const float half_w = w * 0.5f;
    const float half_h = h * 0.5f;
    const float4 box = make_float4(cx - half_w, cy - half_h, cx + half_w, cy + half_h);
    if (!(finite(box.x) && finite(box.y) && finite(box.z) && finite(box.w))) return;
    const u32 slot = atomicAdd(&out.counts[image], 1u);
    if (slot >= (u32)out.capacity) return;
    const size_t at = (size_t)image * out.capacity + slot;
    out.boxes[at] = box;
    out.scores[at] = best.score;
    out.class_ids[at] = best.class_id;
    out.indices[at] = index;
}

template <typename Value>
__device__ __forceinline__ void decode_heads(
    const Level* levels, int level_count, int cells, int classes, float threshold, const u32* allowed,
    const CandidateBuffers& out)
{
    const int index = blockIdx.x * blockDim.x + threadIdx.x;
    const int image = blockIdx.y;
    if (index >= cells) return;
    int number = 0;
    while (number + 1 < level_count && index >= levels[number + 1].first) ++number;
    const Level& level = levels[number];
    const int plane = level.height * level.width;
    const int local = index - level.first;
    const int anchor = local / plane;
    const int cell = local - anchor * plane;
    const size_t step = (size_t)plane;
    const Value* logits = static_cast<const Value*>(level.data)
        + ((size_t)image * level.anchors + anchor) * (5 + classes) * step + cell;

    const float objectness = sigmoid(to_float(logits[4 * step]));
    if (!(objectness > threshold)) return;
    const Best best = best_class<true>(logits + 5 * step, step, classes, objectness);
    if (!(best.score > threshold) || !is_allowed(allowed, best.class_id)) return;

    const int row = cell / level.width;
    const int column = cell - row * level.width;
    const float cx = (sigmoid(to_float(logits[0])) * 2.0f - 0.5f + (float)column) * level.stride;
    const float cy = (sigmoid(to_float(logits[step])) * 2.0f - 0.5f + (float)row) * level.stride;
    const float across = sigmoid(to_float(logits[2 * step])) * 2.0f;
    const float down = sigmoid(to_float(logits[3 * step])) * 2.0f;
    keep(out, image, index, best, cx, cy, across * across * level.sizes[anchor][0], down * down * level.sizes[anchor][1]);
}

template <typename Value>
__device__ __forceinline__ void decode_raw(
    const Value* raw, int cells, int classes, float threshold, const u32* allowed, const CandidateBuffers& out)
{
    const int index = blockIdx.x * blockDim.x + threadIdx.x;
    const int image = blockIdx.y;
    if (index >= cells) return;
    const Value* row = raw + ((size_t)image * cells + index) * (5 + classes);
    const float objectness = to_float(row[4]);
    if (!(objectness > threshold)) return;
    const Best best = best_class<false>(row + 5, 1, classes, objectness);
    if (!(best.score > threshold) || !is_allowed(allowed, best.class_id)) return;
    keep(out, image, index, best, to_float(row[0]), to_float(row[1]), to_float(row[2]), to_float(row[3]));
}

extern "C" __global__ void decode_heads_f32(
    const Level* levels, int level_count, int cells, int classes, float threshold, const u32* allowed,
    float4* boxes, float* scores, int* class_ids, int* indices, u32* counts, int capacity)
{
    const CandidateBuffers out = {boxes, scores, class_ids, indices, counts, capacity};
    decode_heads<float>(levels, level_count, cells, classes, threshold, allowed, out);
}

extern "C" __global__ void decode_heads_f16(
    const Level* levels, int level_count, int cells, int classes, float threshold, const u32* allowed,
    float4* boxes, float* scores, int* class_ids, int* indices, u32* counts, int capacity)
{
    const CandidateBuffers out = {boxes, scores, class_ids, indices, counts, capacity};
    decode_heads<half_bits>(levels, level_count, cells, classes, threshold, allowed, out);
}

extern "C" __global__ void decode_raw_f32(
    const float* raw, int cells, int classes, float threshold, const u32* allowed,
    float4* boxes, float* scores, int* class_ids, int* indices, u32* counts, int capacity)
{
    const CandidateBuffers out = {boxes, scores, class_ids, indices, counts, capacity};
    decode_raw(raw, cells, classes, threshold, allowed, out);
}

extern "C" __global__ void decode_raw_f16(
    const half_bits* raw, int cells, int classes, float threshold, const u32* allowed,
    float4* boxes, float* scores, int* class_ids, int* indices, u32* counts, int capacity)
{
    const CandidateBuffers out = {boxes, scores, class_ids, indices, counts, capacity};
    decode_raw(raw, cells, classes, threshold, allowed, out);
}
