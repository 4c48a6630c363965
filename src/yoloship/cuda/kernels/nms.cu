// From candidates to detections, in three kernels: select and sort, compare, suppress.
//
// Order: by score, descending; ties by index, ascending. With the score's bits above the index's complement,
//
//     key = bits(score)·2³² + (2³² − 1 − index),
//
// that order is simply "larger key first" (a positive float32 sorts as its bits do), and no two keys are equal, so the
// result never depends on the order in which atomics wrote the candidates.
//
// Suppression: candidate j goes when a kept i before it, of the same class unless classes are ignored, has IoU(i, j)
// above the limit. IoU in float32, in the order of operations that pipeline/nms.py writes out (no fused operations):
//
//     overlap = max(min(x2,u2) − max(x1,u1), 0)·max(min(y2,v2) − max(y1,v1), 0)
//     union   = area(i) + area(j) − overlap,  area = max(x2 − x1, 0)·max(y2 − y1, 0)
//     IoU     = overlap / union where union > 0, else 0      (NaN, from overflow, exceeds nothing)
//
// At most MAX_SELECTED candidates are compared: the best ones, exactly. How many were left out is reported.

#include "common.cuh"

enum { MAX_SELECTED = 1024, WORDS = MAX_SELECTED / 32, THREADS = 1024, BINS = 256, MATRIX_ROWS = 8 };

__device__ __forceinline__ u64 key_of(float score, int index)
{
    return ((u64)__float_as_uint(score) << 32) | (u64)(0xffffffffu - (u32)index);
}

// Step 1, one block for each image: the best min(n, MAX_SELECTED) candidates, sorted.
//
// With more than MAX_SELECTED, a radix selection from the top byte down finds the key of rank MAX_SELECTED: after each
// byte, `prefix` is the part of that key known so far and `wanted` its rank among the keys that share the prefix.
// Sorting is by counting: the place of a key is the number of larger ones.
extern "C" __global__ void nms_select(
    const float4* boxes, const float* scores, const int* class_ids, const int* indices, const u32* counts,
    int capacity, float4* sorted_boxes, float* sorted_scores, int* sorted_class_ids, int* sorted_indices,
    int* sorted_counts)
{
    __shared__ u64 keys[MAX_SELECTED];
    __shared__ int slots[MAX_SELECTED];
    __shared__ u32 histogram[BINS];
    __shared__ u64 prefix;
    __shared__ u32 wanted;
    __shared__ u32 filled;

    const int image = blockIdx.x;
    const int thread = threadIdx.x;
    const size_t base = (size_t)image * capacity;
    const u32 found = counts[image];
    const int n = found < (u32)capacity ? (int)found : capacity;

    if (thread == 0) { prefix = 0; wanted = MAX_SELECTED; filled = 0; }
    __syncthreads();
    if (n > MAX_SELECTED) {
        for (int shift = 56; shift >= 0; shift -= 8) {
            if (thread < BINS) histogram[thread] = 0;
            __syncthreads();
            for (int slot = thread; slot < n; slot += THREADS) {
                const u64 key = key_of(scores[base + slot], indices[base + slot]);
                const bool shares = shift == 56 || (key >> (shift + 8)) == (prefix >> (shift + 8));
                if (shares) atomicAdd(&histogram[(key >> shift) & 255u], 1u);
            }
            __syncthreads();
            u32 above = 0;
            u32 own = 0;
            if (thread < BINS) {
                own = histogram[thread];
                for (int bin = thread + 1; bin < BINS; ++bin) above += histogram[bin];
            }
            const u32 rank = wanted;
            __syncthreads();
            if (thread < BINS && above < rank && rank <= above + own) {  // exactly one thread
                prefix |= (u64)thread << shift;
                wanted = rank - above;
            }
            __syncthreads();
        }
    }
    const u64 cutoff = prefix;
    for (int slot = thread; slot < n; slot += THREADS) {
        const u64 key = key_of(scores[base + slot], indices[base + slot]);
        if (key >= cutoff) {
            const u32 at = atomicAdd(&filled, 1u);
            keys[at] = key;
            slots[at] = slot;
        }
    }
    __syncthreads();
    const int selected = (int)filled;
    for (int at = thread; at < selected; at += THREADS) {
        const u64 key = keys[at];
        int place = 0;
        for (int other = 0; other < selected; ++other) place += keys[other] > key ? 1 : 0;
        const size_t from = base + slots[at];
        const size_t to = (size_t)image * MAX_SELECTED + place;
        sorted_boxes[to] = boxes[from];
        sorted_scores[to] = scores[from];
        sorted_class_ids[to] = class_ids[from];
        sorted_indices[to] = indices[from];
    }
    if (thread == 0) sorted_counts[image] = selected;
}

__device__ __forceinline__ float area_of(const float4& box)
{
    return fmaxf(box.z - box.x, 0.0f) * fmaxf(box.w - box.y, 0.0f);
}

__device__ __forceinline__ float iou(const float4& a, const float4& b)
{
    const float width = fmaxf(fminf(a.z, b.z) - fmaxf(a.x, b.x), 0.0f);
    const float height = fmaxf(fminf(a.w, b.w) - fmaxf(a.y, b.y), 0.0f);
    const float overlap = width * height;
    const float united = area_of(a) + area_of(b) - overlap;
    return united > 0.0f ? overlap / united : 0.0f;
}

// Step 2: bit j of row i says that i, if kept, suppresses j > i. A warp makes one word (32 columns) of MATRIX_ROWS rows;
// words left of the diagonal and past the last candidate are not written, and not read by step 3.
extern "C" __global__ void nms_matrix(
    const float4* sorted_boxes, const int* sorted_class_ids, const int* sorted_counts, float iou_threshold,
    int class_agnostic, u32* matrix)
{
    const int image = blockIdx.y;
    const int n = sorted_counts[image];
    const int first_row = blockIdx.x * MATRIX_ROWS;
    const int word = threadIdx.x >> 5;
    const int column = threadIdx.x;
    if (first_row >= n || word < (first_row >> 5) || (word << 5) >= n) return;  // the same for a whole warp
    const size_t base = (size_t)image * MAX_SELECTED;
    const int safe = column < n ? column : n - 1;
    const float4 box = sorted_boxes[base + safe];
    const int class_id = sorted_class_ids[base + safe];
    for (int row = first_row; row < first_row + MATRIX_ROWS && row < n; ++row) {
        const bool meets = class_agnostic != 0 || sorted_class_ids[base + row] == class_id;
        const bool clash = column < n && column > row && meets && iou(sorted_boxes[base + row], box) > iou_threshold;
        const u32 bits = __ballot_sync(0xffffffffu, clash);
        if ((threadIdx.x & 31) == 0) matrix[(base + row) * WORDS + word] = bits;
    }
}

// Step 3, one warp for each image: walk down the order; lane l holds the removed bits of candidates 32·l … 32·l + 31.
// Rows are fetched 32 at a time, all lanes at once, so memory latency is paid once for each word.
//
// Then the kept boxes go back to source pixels, x_source = (x − left) / (w' / w) in float64, clipped to the picture,
// in float32. Mirrors RESULT layout in postprocess.py: per image 4 ints (kept, candidates, past the capacity, past
// MAX_SELECTED), then boxes, scores, class ids, indices, each for max_detections.
extern "C" __global__ void nms_reduce(
    const float4* sorted_boxes, const float* sorted_scores, const int* sorted_class_ids, const int* sorted_indices,
    const int* sorted_counts, const u32* matrix, const u32* counts, int capacity, int max_detections,
    const Frame* frames, int* results)
{
    __shared__ int kept[MAX_SELECTED];
    const int image = blockIdx.x;
    const int lane = threadIdx.x;
    const size_t base = (size_t)image * MAX_SELECTED;
    const int n = sorted_counts[image];
    u32 removed = 0;
    int kept_count = 0;
    for (int word = 0; word * 32 < n && kept_count < max_detections; ++word) {
        u32 rows[32];
#pragma unroll
        for (int bit = 0; bit < 32; ++bit) {
            const int row = word * 32 + bit;
            const bool written = row < n && lane >= word && lane * 32 < n;
            rows[bit] = written ? matrix[(base + row) * WORDS + lane] : 0u;
        }
        u32 gone = __shfl_sync(0xffffffffu, removed, word);
#pragma unroll
        for (int bit = 0; bit < 32; ++bit) {
            const u32 suppressed = __shfl_sync(0xffffffffu, rows[bit], word);
            const int row = word * 32 + bit;
            if (row < n && ((gone >> bit) & 1u) == 0u && kept_count < max_detections) {
                if (lane == 0) kept[kept_count] = row;
                ++kept_count;
                gone |= suppressed;
                removed |= rows[bit];
            }
        }
    }
    __syncwarp();

    const size_t record = 4 + 7 * (size_t)max_detections;
    int* result = results + (size_t)image * record;
    float* out_boxes = reinterpret_cast<float*>(result + 4);
    float* out_scores = out_boxes + 4 * (size_t)max_detections;
    int* out_class_ids = reinterpret_cast<int*>(out_scores + max_detections);
    int* out_indices = out_class_ids + max_detections;
    if (lane == 0) {
        const u32 found = counts[image];
        const u32 stored = found < (u32)capacity ? found : (u32)capacity;
        result[0] = kept_count;
        result[1] = (int)found;
        result[2] = (int)(found - stored);
        result[3] = (int)stored - n;
    }
    const Frame& frame = frames[image];
    const double gain_x = (double)frame.resized_width / (double)frame.width;
    const double gain_y = (double)frame.resized_height / (double)frame.height;
    for (int at = lane; at < max_detections; at += 32) {
        float4 box = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        float score = 0.0f;
        int class_id = -1;
        int index = -1;
        if (at < kept_count) {
            const size_t from = base + kept[at];
            const float4 canvas = sorted_boxes[from];
            const float right = (float)frame.width;
            const float bottom = (float)frame.height;
            box.x = fminf(fmaxf((float)(((double)canvas.x - frame.left) / gain_x), 0.0f), right);
            box.y = fminf(fmaxf((float)(((double)canvas.y - frame.top) / gain_y), 0.0f), bottom);
            box.z = fminf(fmaxf((float)(((double)canvas.z - frame.left) / gain_x), 0.0f), right);
            box.w = fminf(fmaxf((float)(((double)canvas.w - frame.top) / gain_y), 0.0f), bottom);
            score = sorted_scores[from];
            class_id = sorted_class_ids[from];
            index = sorted_indices[from];
        }
        out_boxes[4 * at] = box.x;
        out_boxes[4 * at + 1] = box.y;
        out_boxes[4 * at + 2] = box.z;
        out_boxes[4 * at + 3] = box.w;
        out_scores[at] = score;
        out_class_ids[at] = class_id;
        out_indices[at] = index;
    }
}
