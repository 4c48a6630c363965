// From the output of a head without anchors to candidate boxes, one for each cell, and from rows that such a head has
// chosen itself.
//
// Undecoded maps (bins ≥ 1): for the cell at row y, column x of a level, with the side logits t of 4·bins channels and
// the class logits c, in float32:
//
//     d(side) = Σ j·pⱼ, p = softmax over the side's bins; the channel itself if there is one bin only
//     x₁ = (x + ½ − d(left))·stride       x₂ = (x + ½ + d(right))·stride       y alike
//     score = σ(max of c), the first class that reaches it
//
// Oriented boxes have an angle θ of their own, in radians, and with u = (right − left)/2, v = (bottom − top)/2
//
//     cx = (x + ½ + u·cos θ − v·sin θ)·stride     cy = (y + ½ + u·sin θ + v·cos θ)·stride
//     w = (left + right)·stride                   h = (top + bottom)·stride
//
// Decoded columns (bins 0): cx, cy, w, h in model pixels, class scores, and θ.
//
// A head without suppression (pairs): every class of a cell is a candidate of its own, with the index cell·classes + class.
//
// A candidate counts if its score exceeds the threshold, its best class is allowed, and its box is finite. NaN exceeds
// nothing. One NaN among the classes discards the candidate, as NumPy's argmax does. Candidates are written in no
// particular order, as in decode.cu. Of an oriented box, (cx, cy, w, h) is written, and the angle beside it.
//
// All classes of all cells have to be read. Neighbouring lanes read neighbouring cells, and the warps of a block share
// the classes. Then four threads decode each of the few cells that pass.

#include "candidates.cuh"

enum { CELLS = 32, READERS = 4, FREE_THREADS = CELLS * READERS, AT_ONCE = 8, MAX_BINS = 16 };

// Where a group of values lies: value v of cell c of image i is at data[i·image_step + v·value_step + c·cell_step].
struct Span {
    const void* data;
    long long image_step;
    int value_step;
    int cell_step;
};

// One level of a head. Mirrors FREE_LEVEL_DTYPE in postprocess.py, byte for byte.
struct FreeLevel {
    Span boxes;
    Span classes;
    Span angles;   // of oriented boxes only
    int first;     // index of its first candidate
    int width;     // in cells
    float stride;  // model pixels per cell
    int reserved;
};
static_assert(sizeof(FreeLevel) == 88, "FreeLevel and FREE_LEVEL_DTYPE have drifted apart");

template <typename Value>
__device__ __forceinline__ const Value* span_at(const Span& span, int image, int cell)
{
    return static_cast<const Value*>(span.data) + (size_t)image * span.image_step + (size_t)cell * span.cell_step;
}

// The best of the classes `reader`, `reader + READERS`, … AT_ONCE of them are fetched before the first is compared.
template <typename Value>
__device__ __forceinline__ Best best_of_cell(const Value* values, int step, int reader, int classes)
{
    Best best = {__uint_as_float(0xff800000u), reader};  // minus infinity
#pragma unroll 1
    for (int first = reader; first < classes; first += READERS * AT_ONCE) {
        float fetched[AT_ONCE];
#pragma unroll
        for (int turn = 0; turn < AT_ONCE; ++turn) {
            const int id = first + turn * READERS;
            fetched[turn] = to_float(values[(size_t)(id < classes ? id : first) * step]);
        }
#pragma unroll
        for (int turn = 0; turn < AT_ONCE; ++turn) {
            const int id = first + turn * READERS;
            const Best here = {fetched[turn], id};
            if (id < classes) best = better(best, here);
        }
    }
    return best;
}

// The distance of one side, in cells.
template <typename Value>
__device__ __forceinline__ float distance_of(const Value* values, int step, int side, int bins)
{
    if (bins == 1) return to_float(values[(size_t)side * step]);
    float logits[MAX_BINS];
    float most = __uint_as_float(0xff800000u);
#pragma unroll
    for (int bin = 0; bin < MAX_BINS; ++bin) {
        logits[bin] = to_float(values[(size_t)(side * bins + (bin < bins ? bin : 0)) * step]);
    }
#pragma unroll
    for (int bin = 0; bin < MAX_BINS; ++bin) {
        if (bin < bins) most = logits[bin] > most || logits[bin] != logits[bin] ? logits[bin] : most;
    }
    float total = 0.0f;
    float weighted = 0.0f;
#pragma unroll
    for (int bin = 0; bin < MAX_BINS; ++bin) {
        const float weight = bin < bins ? expf(logits[bin] - most) : 0.0f;
        total += weight;
        weighted += weight * (float)bin;
    }
    return weighted / total;
}

struct FreeCandidates {
    CandidateBuffers common;
    float* angles;  // of oriented boxes only
};

// One block's cells of one image.
template <bool ROTATED, typename Value>
__device__ __forceinline__ void decode_free(
    const FreeLevel* levels, int level_count, int bins, int pairs, int cells, int classes, float threshold,
    const u32* allowed, const FreeCandidates& out)
{
    __shared__ FreeLevel table[MAX_LEVELS];
    __shared__ Best parts[READERS][CELLS];
    __shared__ Best survivors[CELLS];
    __shared__ int survivor_indices[CELLS];
    __shared__ int survivor_count;
    const int thread = threadIdx.x;
    const int lane = thread & 31;
    const int reader = thread / 32;
    const int image = blockIdx.y;
    let_the_next_begin();
    fetch_levels(levels, level_count, table);
    __syncthreads();

    const int own = blockIdx.x * CELLS + lane;
    if (own < cells) {
        const FreeLevel* level = level_of(table, level_count, own);
        const Value* values = span_at<Value>(level->classes, image, own - level->first);
        parts[reader][lane] = best_of_cell(values, level->classes.value_step, reader, classes);
    }
    __syncthreads();
    if (reader == 0) {
        Best best = {0.0f, 0};
        bool passes = false;
        if (own < cells) {
            best = parts[0][lane];
#pragma unroll
            for (int other = 1; other < READERS; ++other) best = better(best, parts[other][lane]);
            if (bins != 0) best.score = sigmoid(best.score);
            passes = best.score > threshold && (pairs != 0 || is_allowed(allowed, best.class_id));
        }
        const u32 all = __ballot_sync(0xffffffffu, passes);
        if (passes) {
            const int at = __popc(all & ((1u << lane) - 1u));
            survivors[at] = best;
            survivor_indices[at] = own;
        }
        if (lane == 0) survivor_count = __popc(all);
    }
    __syncthreads();

    // All threads of a warp stay for the exchange. Those without a survivor repeat the last one, without effect.
    const int count = survivor_count;
    const int wanted = thread / 4;
    if (thread / 32 * 8 >= count) return;  // the whole warp
    const int chosen = wanted < count ? wanted : count - 1;
    const int side = thread & 3;
    const int index = survivor_indices[chosen];
    const FreeLevel& level = *level_of(table, level_count, index);
    const int cell = index - level.first;
    const Value* values = span_at<Value>(level.boxes, image, cell);
    const float value = bins == 0 ? to_float(values[(size_t)side * level.boxes.value_step])
                                  : distance_of(values, level.boxes.value_step, side, bins);
    const int leader = lane & ~3;
    const float left = from_lane(value, leader);
    const float top = from_lane(value, leader + 1);
    const float right = from_lane(value, leader + 2);
    const float bottom = from_lane(value, leader + 3);
    if ((side != 0 && pairs == 0) || wanted >= count) return;

    const int row = cell / level.width;
    const float across = (float)(cell - row * level.width) + 0.5f;
    const float down = (float)row + 0.5f;
    float angle = 0.0f;
    float4 box;
    if (ROTATED) {
        angle = to_float(*span_at<Value>(level.angles, image, cell));
        if (!finite(angle)) return;
    }
    if (bins == 0 && ROTATED) {
        box = make_float4(left, top, right, bottom);  // cx, cy, w, h
    } else if (bins == 0) {
        const float half_w = right * 0.5f;
        const float half_h = bottom * 0.5f;
        box = make_float4(left - half_w, top - half_h, left + half_w, top + half_h);
    } else if (ROTATED) {
        const float u = (right - left) / 2.0f;
        const float v = (bottom - top) / 2.0f;
        const float cosine = cosf(angle);
        const float sine = sinf(angle);
        box = make_float4(
            (u * cosine - v * sine + across) * level.stride, (u * sine + v * cosine + down) * level.stride,
            (left + right) * level.stride, (top + bottom) * level.stride);
    } else {
        box = make_float4(
            (across - left) * level.stride, (down - top) * level.stride, (across + right) * level.stride,
            (down + bottom) * level.stride);
    }
    if (pairs == 0) {
        const size_t at = keep_box(out.common, image, index, survivors[chosen], box);
        if (ROTATED && at != NOWHERE) out.angles[at] = angle;
        return;
    }
    const Value* logits = span_at<Value>(level.classes, image, cell);
#pragma unroll 4
    for (int id = side; id < classes; id += 4) {
        const float logit = to_float(logits[(size_t)id * level.classes.value_step]);
        const Best own_class = {bins == 0 ? logit : sigmoid(logit), id};
        if (!(own_class.score > threshold) || !is_allowed(allowed, id)) continue;
        const size_t at = keep_box(out.common, image, index * classes + id, own_class, box);
        if (ROTATED && at != NOWHERE) out.angles[at] = angle;
    }
}

// Rows that the head has chosen itself: (B, k, columns) with x₁, y₁, x₂, y₂ (or cx, cy, w, h), score, class, and
// whatever follows; of an oriented box its angle. A class that the model does not have becomes −1, which the host
// refuses.
template <bool ROTATED, typename Value>
__device__ __forceinline__ void decode_chosen(
    const Value* rows, int columns, int cells, int classes, float threshold, const u32* allowed,
    const FreeCandidates& out)
{
    let_the_next_begin();
    const int own = blockIdx.x * blockDim.x + threadIdx.x;
    if (own >= cells) return;
    const Value* row = rows + ((size_t)blockIdx.y * cells + own) * columns;
    const float score = to_float(row[4]);
    if (!(score > threshold)) return;
    const float named = to_float(row[5]);
    const bool is_known = named >= 0.0f && named < (float)classes && named == floorf(named);
    const Best best = {score, is_known ? (int)named : -1};
    if (is_known && !is_allowed(allowed, best.class_id)) return;
    const float angle = ROTATED ? to_float(row[6]) : 0.0f;
    if (!finite(angle)) return;
    const float4 box = make_float4(to_float(row[0]), to_float(row[1]), to_float(row[2]), to_float(row[3]));
    const size_t at = keep_box(out.common, blockIdx.y, own, best, box);
    if (ROTATED && at != NOWHERE) out.angles[at] = angle;
}

extern "C" __global__ void decode_free_f32(
    const FreeLevel* levels, int level_count, int bins, int pairs, int cells, int classes, float threshold, const u32* allowed,
    float4* boxes, float* scores, int* class_ids, int* indices, u32* counts, int capacity)
{
    const FreeCandidates out = {{boxes, scores, class_ids, indices, counts, capacity}, nullptr};
    decode_free<false, float>(levels, level_count, bins, pairs, cells, classes, threshold, allowed, out);
}

extern "C" __global__ void decode_free_f16(
    const FreeLevel* levels, int level_count, int bins, int pairs, int cells, int classes, float threshold, const u32* allowed,
    float4* boxes, float* scores, int* class_ids, int* indices, u32* counts, int capacity)
{
    const FreeCandidates out = {{boxes, scores, class_ids, indices, counts, capacity}, nullptr};
    decode_free<false, half_bits>(levels, level_count, bins, pairs, cells, classes, threshold, allowed, out);
}

extern "C" __global__ void decode_rotated_f32(
    const FreeLevel* levels, int level_count, int bins, int pairs, int cells, int classes, float threshold,
    const u32* allowed, float4* boxes, float* scores, int* class_ids, int* indices, u32* counts, int capacity,
    float* angles)
{
    const FreeCandidates out = {{boxes, scores, class_ids, indices, counts, capacity}, angles};
    decode_free<true, float>(levels, level_count, bins, pairs, cells, classes, threshold, allowed, out);
}

extern "C" __global__ void decode_rotated_f16(
    const FreeLevel* levels, int level_count, int bins, int pairs, int cells, int classes, float threshold,
    const u32* allowed, float4* boxes, float* scores, int* class_ids, int* indices, u32* counts, int capacity,
    float* angles)
{
    const FreeCandidates out = {{boxes, scores, class_ids, indices, counts, capacity}, angles};
    decode_free<true, half_bits>(levels, level_count, bins, pairs, cells, classes, threshold, allowed, out);
}

extern "C" __global__ void decode_chosen_f32(
    const float* rows, int columns, int cells, int classes, float threshold, const u32* allowed,
    float4* boxes, float* scores, int* class_ids, int* indices, u32* counts, int capacity)
{
    const FreeCandidates out = {{boxes, scores, class_ids, indices, counts, capacity}, nullptr};
    decode_chosen<false>(rows, columns, cells, classes, threshold, allowed, out);
}

extern "C" __global__ void decode_chosen_f16(
    const half_bits* rows, int columns, int cells, int classes, float threshold, const u32* allowed,
    float4* boxes, float* scores, int* class_ids, int* indices, u32* counts, int capacity)
{
    const FreeCandidates out = {{boxes, scores, class_ids, indices, counts, capacity}, nullptr};
    decode_chosen<false>(rows, columns, cells, classes, threshold, allowed, out);
}

extern "C" __global__ void decode_chosen_rotated_f32(
    const float* rows, int columns, int cells, int classes, float threshold, const u32* allowed,
    float4* boxes, float* scores, int* class_ids, int* indices, u32* counts, int capacity, float* angles)
{
    const FreeCandidates out = {{boxes, scores, class_ids, indices, counts, capacity}, angles};
    decode_chosen<true>(rows, columns, cells, classes, threshold, allowed, out);
}

extern "C" __global__ void decode_chosen_rotated_f16(
    const half_bits* rows, int columns, int cells, int classes, float threshold, const u32* allowed,
    float4* boxes, float* scores, int* class_ids, int* indices, u32* counts, int capacity, float* angles)
{
    const FreeCandidates out = {{boxes, scores, class_ids, indices, counts, capacity}, angles};
    decode_chosen<true>(rows, columns, cells, classes, threshold, allowed, out);
}
