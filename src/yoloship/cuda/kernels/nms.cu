// From candidates to detections: select, sort, compare, suppress, and back to source pixels, in one launch.
//
// Order: by score, descending; ties by index, ascending. With the score's bits above the index's complement,
//
//     key = bits(score)·2³² + (2³² − 1 − index),
//
// this order is "larger key first" (positive float32 numbers sort like their bits). No two keys are equal, so the result
// never depends on the order in which atomics wrote the candidates. Rows that a head has put in order itself keep it.
//
// Suppression: candidate j is dropped if a kept candidate i before it has IoU(i, j) above the limit, and the same class
// unless classes are ignored. IoU in float32, in the order of operations of tasks/nms.py (no fused operations):
//
//     overlap = max(min(x2,u2) − max(x1,u1), 0)·max(min(y2,v2) − max(y1,v1), 0)
//     union   = area(i) + area(j) − overlap,  area = max(x2 − x1, 0)·max(y2 − y1, 0)
//     IoU     = overlap / union if union > 0, else 0         (NaN, from overflow, exceeds nothing)
//
// Exactly the best MAX_SELECTED candidates are compared. The number of the others is reported.
//
// Oriented boxes (nms_rotated): candidate j is dropped if any candidate i before it, kept or not, has a probabilistic
// IoU above the limit. The formulas and their order are those of `moments_of` and `pair_probious` in
// results/oriented.py, except for the last bits of sin, cos, exp and log.
//
// Code is kept short, and loops are not unrolled if possible, because a kernel that runs once between two networks finds
// its instructions in no cache and waits for each piece of them.
//
// Work of the blocks: with up to SOLO candidates, block 0 of an image does everything in shared memory, and the others
// return at once. With more, all SHARES blocks select and sort the same candidates, each compares its share of the
// pairs, and the last one to finish suppresses. No block waits for another, so any number may run at once.

#include "kept.cuh"

enum { MAX_SELECTED = 1024, WORDS = MAX_SELECTED / 32, THREADS = 512, BINS = 256, SHARES = 16 };
enum { SOLO = 256, SOLO_WORDS = SOLO / 32, NO_KEY = 0 };

__device__ __forceinline__ u64 key_of(float score, int index)
{
    return ((u64)__float_as_uint(score) << 32) | (u64)(0xffffffffu - (u32)index);
}

// The candidates of one image, written by decode.cu or decode_free.cu.
struct Candidates {
    const float4* boxes;
    const float* scores;
    const int* class_ids;
    const int* indices;
    const float* angles;  // of oriented boxes only
    int count;
    bool in_order;  // whether they come by their index, whatever their scores

    __device__ __forceinline__ u64 key(int slot) const
    {
        return key_of(in_order ? 1.0f : scores[slot], indices[slot]);
    }
};

// The best of them, best first. `shapes` and `extents` are boxes and scores. Of oriented boxes they are the centres with
// the second moments along x and y, and the mixed moments.
struct Sorted {
    float4 shapes[MAX_SELECTED];
    float extents[MAX_SELECTED];
    int class_ids[MAX_SELECTED];
    int places[MAX_SELECTED];  // indices; of oriented boxes the slots, where the result finds their boxes again
};

template <bool ROTATED>
__device__ __forceinline__ void load(const Candidates& candidates, int slot, Sorted& sorted, int at)
{
    const float4 box = candidates.boxes[slot];
    sorted.class_ids[at] = candidates.class_ids[slot];
    if (!ROTATED) {
        sorted.shapes[at] = box;
        sorted.extents[at] = candidates.scores[slot];
        sorted.places[at] = candidates.indices[slot];
        return;
    }
    const float a = box.z * box.z / 12.0f;
    const float b = box.w * box.w / 12.0f;
    const float cosine = cosf(candidates.angles[slot]);
    const float sine = sinf(candidates.angles[slot]);
    const float along_x = a * cosine * cosine + b * sine * sine;
    const float along_y = a * sine * sine + b * cosine * cosine;
    sorted.shapes[at] = make_float4(box.x, box.y, along_x, along_y);
    sorted.extents[at] = (a - b) * cosine * sine;
    sorted.places[at] = slot;
}

// Keys during sorting; afterwards the data for suppression.
union Scratch {
    struct { u64 keys[MAX_SELECTED]; int slots[MAX_SELECTED]; } sorting;
    struct { u32 matrix[SOLO * SOLO_WORDS]; int kept[MAX_SELECTED]; } suppressing;
};

// The key of rank MAX_SELECTED among more than MAX_SELECTED keys, found byte by byte from the top. `prefix` is the known
// part, and `wanted` its rank among the keys with this prefix.
__device__ __forceinline__ u64 cutoff_of(const Candidates& candidates)
{
    __shared__ u32 histogram[BINS];
    __shared__ u64 prefix;
    __shared__ u32 wanted;
    const int thread = threadIdx.x;
    if (thread == 0) { prefix = 0; wanted = MAX_SELECTED; }
#pragma unroll 1
    for (int shift = 56; shift >= 0; shift -= 8) {
        if (thread < BINS) histogram[thread] = 0;
        __syncthreads();
#pragma unroll 4
        for (int slot = thread; slot < candidates.count; slot += THREADS) {
            const u64 key = candidates.key(slot);
            const bool shares = shift == 56 || (key >> (shift + 8)) == (prefix >> (shift + 8));
            if (shares) atomicAdd(&histogram[(key >> shift) & 255u], 1u);
        }
        __syncthreads();
#pragma unroll 1
        for (int step = 1; step < BINS; step <<= 1) {  // afterwards: how many have this byte or a larger one
            const u32 more = thread + step < BINS ? histogram[thread + step] : 0u;
            __syncthreads();
            if (thread < BINS) histogram[thread] += more;
            __syncthreads();
        }
        const u32 rank = wanted;
        const u32 above = thread + 1 < BINS ? histogram[thread + 1] : 0u;
        const bool is_it = thread < BINS && above < rank && rank <= histogram[thread];  // exactly one thread's
        __syncthreads();
        if (is_it) {
            prefix |= (u64)thread << shift;
            wanted = rank - above;
        }
        __syncthreads();
    }
    return prefix;
}

// Bitonic sort: rising and falling runs are merged into longer ones, until one falling run is left. `size` is a power of
// two.
__device__ __forceinline__ void sort_keys(u64* keys, int* slots, int size)
{
#pragma unroll 1
    for (int run = 2; run <= size; run <<= 1) {
#pragma unroll 1
        for (int distance = run >> 1; distance > 0; distance >>= 1) {
#pragma unroll 1
            for (int pair = threadIdx.x; pair < size / 2; pair += THREADS) {
                const int low = 2 * pair - (pair & (distance - 1));
                const int high = low + distance;
                const bool falls = (low & run) == 0;
                const u64 a = keys[low];
                const u64 b = keys[high];
                if ((a < b) == falls) {
                    keys[low] = b;
                    keys[high] = a;
                    const int slot = slots[low];
                    slots[low] = slots[high];
                    slots[high] = slot;
                }
            }
            __syncthreads();
        }
    }
}

// Fills `sorted` and returns its length. All values of a candidate are fetched at once, and moved after sorting.
template <bool ROTATED>
__device__ __forceinline__ int select_best(const Candidates& candidates, Scratch& scratch, Sorted& sorted)
{
    __shared__ u32 filled;
    const int thread = threadIdx.x;
    u64* keys = scratch.sorting.keys;
    int* slots = scratch.sorting.slots;
    const bool are_many = candidates.count > MAX_SELECTED;
    const int selected = are_many ? (int)MAX_SELECTED : candidates.count;
    if (thread == 0) filled = 0;
    const u64 cutoff = are_many ? cutoff_of(candidates) : (u64)NO_KEY;  // its barriers are for `filled` too
#pragma unroll 1
    for (int slot = thread; slot < candidates.count; slot += THREADS) {
        const u64 key = candidates.key(slot);
        if (key < cutoff) continue;
        const int at = are_many ? (int)atomicAdd(&filled, 1u) : slot;
        keys[at] = key;
        slots[at] = at;
        load<ROTATED>(candidates, slot, sorted, at);
    }
    int size = 1;
#pragma unroll 1
    while (size < selected) size <<= 1;
#pragma unroll 1
    for (int at = selected + thread; at < size; at += THREADS) keys[at] = NO_KEY;  // below all: scores are positive
    __syncthreads();
    sort_keys(keys, slots, size);

    float4 shapes[MAX_SELECTED / THREADS];
    float extents[MAX_SELECTED / THREADS];
    int class_ids[MAX_SELECTED / THREADS];
    int places[MAX_SELECTED / THREADS];
#pragma unroll
    for (int own = 0; own < MAX_SELECTED / THREADS; ++own) {
        const int at = own * THREADS + thread;
        if (at >= selected) continue;
        shapes[own] = sorted.shapes[slots[at]];
        extents[own] = sorted.extents[slots[at]];
        class_ids[own] = sorted.class_ids[slots[at]];
        places[own] = sorted.places[slots[at]];
    }
    __syncthreads();
#pragma unroll
    for (int own = 0; own < MAX_SELECTED / THREADS; ++own) {
        const int at = own * THREADS + thread;
        if (at >= selected) continue;
        sorted.shapes[at] = shapes[own];
        sorted.extents[at] = extents[own];
        sorted.class_ids[at] = class_ids[own];
        sorted.places[at] = places[own];
    }
    __syncthreads();
    return selected;
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

__device__ __forceinline__ float probiou(const float4& one, float one_c, const float4& two, float two_c)
{
    const float epsilon = 1e-7f;
    const float a = one.z + two.z;
    const float b = one.w + two.w;
    const float c = one_c + two_c;
    const float determinant = a * b - c * c;
    const float safe = determinant + epsilon;
    const float dx = one.x - two.x;
    const float dy = one.y - two.y;
    const float centres = (a * dy * dy + b * dx * dx) / safe * 0.25f - c * dx * dy / safe * 0.5f;
    const float own = fmaxf(one.z * one.w - one_c * one_c, 0.0f) * fmaxf(two.z * two.w - two_c * two_c, 0.0f);
    const float shapes = logf(determinant / (4.0f * sqrtf(own) + epsilon) + epsilon) * 0.5f;
    float distance = centres + shapes;
    if (distance < epsilon) distance = epsilon;  // written out, because fmaxf would turn NaN into a number
    if (distance > 100.0f) distance = 100.0f;
    return 1.0f - sqrtf(1.0f - expf(-distance) + epsilon);
}

// Bit j of row i says that i, if kept, suppresses j > i. One of `warps` warps computes its share of the rows, a word of
// 32 columns at a time. Words left of the diagonal are neither written nor read.
template <bool ROTATED>
__device__ __forceinline__ void compare(
    const Sorted& sorted, int n, float iou_threshold, bool class_agnostic, int warp, int warps, u32* matrix, int width)
{
    const int lane = threadIdx.x & 31;
#pragma unroll 1
    for (int row = warp; row < n; row += warps) {
        const float4 shape = sorted.shapes[row];
        const float extent = sorted.extents[row];
        const int class_id = sorted.class_ids[row];
#pragma unroll 1
        for (int word = row / 32; word * 32 < n; ++word) {
            const int column = word * 32 + lane;
            bool clash = false;
            if (column > row && column < n && (class_agnostic || sorted.class_ids[column] == class_id)) {
                const float4 other = sorted.shapes[column];
                const float shared = ROTATED ? probiou(shape, extent, other, sorted.extents[column]) : iou(shape, other);
                clash = shared > iou_threshold;
            }
            const u32 bits = __ballot_sync(0xffffffffu, clash);
            if (lane == 0) matrix[row * width + word] = bits;
        }
    }
}

// Lane r passes row r of 32 × 32 bits, and gets column r.
__device__ __forceinline__ u32 transposed(u32 bits)
{
    const int lane = threadIdx.x & 31;
    u32 low = 0x0000ffffu;
#pragma unroll 1
    for (int distance = 16; distance > 0; distance >>= 1) {
        const u32 other = __shfl_sync(0xffffffffu, bits, lane ^ distance);
        bits = (lane & distance) == 0 ? (bits & low) | ((other & low) << distance)
                                      : (bits & ~low) | ((other & ~low) >> distance);
        low ^= low << (distance >> 1);
    }
    return bits;
}

// The state of a block while it goes through the sorted candidates.
struct Walk {
    u32 removed[WORDS];  // bit j of word w: candidate 32·w + j is gone
    u32 chosen;          // kept candidates of the current word
    int count;           // kept so far
};

// Goes through the sorted candidates, a word of 32 at a time. Within a word, candidate b is kept if no kept candidate
// before it suppresses it. One warp solves this for all 32 at once: it starts with all remaining candidates, and
// repeats with each answer until the answer does not change. After k rounds the first k candidates are right, so it
// ends. Long chains of suppression are rare, so it ends soon. Then all warps mark the later candidates that the kept
// ones suppress.
__device__ __forceinline__ void suppress(const u32* matrix, int width, int n, int limit, Walk& walk, int* kept)
{
    const int thread = threadIdx.x;
    const int lane = thread & 31;
    const int warp = thread / 32;
    if (thread < WORDS) walk.removed[thread] = 0;
    if (thread == 0) walk.count = 0;
    u32 diagonal = warp == 0 && lane < n ? matrix[lane * width] : 0u;
    __syncthreads();
#pragma unroll 1
    for (int word = 0; word * 32 < n; ++word) {
        const int first = word * 32;
        if (warp == 0) {
            const u32 by = transposed(diagonal);  // bit a: candidate a of this word suppresses this lane's
            const int ahead = first + 32 + lane;
            diagonal = ahead < n ? matrix[ahead * width + word + 1] : 0u;
            const bool is_left = first + lane < n && ((walk.removed[word] >> lane) & 1u) == 0u;
            u32 chosen = __ballot_sync(0xffffffffu, is_left);
            for (;;) {
                const u32 again = __ballot_sync(0xffffffffu, is_left && (by & chosen) == 0u);
                if (again == chosen) break;
                chosen = again;
            }
            const int count = walk.count;
#pragma unroll 1
            while (__popc(chosen) > limit - count) chosen &= ~(0x80000000u >> __clz(chosen));
            if (((chosen >> lane) & 1u) != 0u) kept[count + __popc(chosen & ((1u << lane) - 1u))] = first + lane;
            __syncwarp();
            if (lane == 0) {
                walk.chosen = chosen;
                walk.count = count + __popc(chosen);
            }
        }
        __syncthreads();
        if (first + 32 >= n || walk.count >= limit) break;  // the same for all
        u32 gone = 0;
        for (int row = warp; row < 32; row += THREADS / 32) {
            const bool counts = ((walk.chosen >> row) & 1u) != 0u && lane > word && lane * 32 < n;
            if (counts) gone |= matrix[(first + row) * width + lane];
        }
        if (gone != 0u) atomicOr(&walk.removed[lane], gone);
        __syncthreads();
    }
}

// The same for oriented boxes, whose candidates are also dropped by dropped ones: a column with any bit is gone.
__device__ __forceinline__ void suppress_by_any(
    const u32* matrix, int width, int n, int limit, Walk& walk, int* kept)
{
    const int thread = threadIdx.x;
    const int lane = thread & 31;
    const int warp = thread / 32;
    if (thread < WORDS) walk.removed[thread] = 0;
    if (thread == 0) walk.count = 0;
    __syncthreads();
    u32 gone = 0;
#pragma unroll 4
    for (int row = warp; row < n; row += THREADS / 32) {
        if (lane * 32 < n && lane >= row / 32) gone |= matrix[row * width + lane];
    }
    if (gone != 0u) atomicOr(&walk.removed[lane], gone);
    __syncthreads();
    if (warp == 0) {
        int count = 0;
#pragma unroll 1
        for (int word = 0; word * 32 < n && count < limit; ++word) {
            const int own = word * 32 + lane;
            const bool is_left = own < n && ((walk.removed[word] >> lane) & 1u) == 0u;
            const u32 chosen = __ballot_sync(0xffffffffu, is_left);
            const int at = count + __popc(chosen & ((1u << lane) - 1u));
            if (is_left && at < limit) kept[at] = own;
            count += __popc(chosen);
        }
        if (lane == 0) walk.count = count < limit ? count : limit;
    }
    __syncthreads();
}

// Mirrors the layout of result_dtype in postprocess.py: per image 4 ints (kept, candidates, past the capacity, past
// MAX_SELECTED), then boxes, scores, class ids, indices, each for max_detections. Neighbouring threads write
// neighbouring words, because the results may be in the host's memory. Oriented boxes stay in model pixels, as
// (cx, cy, w, h), and their angles follow.
template <bool ROTATED>
__device__ __forceinline__ void write_result(
    const Candidates& candidates, const Sorted& sorted, const int* kept, int kept_count, const Frame& frame,
    int max_detections, int* result)
{
    float* boxes = reinterpret_cast<float*>(result);
    float* scores = boxes + 4 * (size_t)max_detections;
    int* class_ids = reinterpret_cast<int*>(scores + max_detections);
    int* indices = class_ids + max_detections;
    float* angles = reinterpret_cast<float*>(indices + max_detections);
#pragma unroll 1
    for (int word = threadIdx.x; word < 4 * max_detections; word += THREADS) {
        float value = 0.0f;
        if (word / 4 < kept_count) {
            const int from = kept[word / 4];
            const float4* box = ROTATED ? candidates.boxes + sorted.places[from] : sorted.shapes + from;
            value = reinterpret_cast<const float*>(box)[word & 3];
            if (!ROTATED) value = to_source(frame, value, word & 3);
        }
        boxes[word] = value;
    }
#pragma unroll 1
    for (int at = threadIdx.x; at < max_detections; at += THREADS) {
        const bool is_one = at < kept_count;
        const int from = is_one ? kept[at] : 0;
        const int slot = ROTATED && is_one ? sorted.places[from] : 0;
        scores[at] = !is_one ? 0.0f : (ROTATED ? candidates.scores[slot] : sorted.extents[from]);
        class_ids[at] = is_one ? sorted.class_ids[from] : -1;
        indices[at] = !is_one ? -1 : (ROTATED ? candidates.indices[slot] : sorted.places[from]);
        if (ROTATED) angles[at] = is_one ? candidates.angles[slot] : 0.0f;
    }
}

struct NmsLimits {
    float iou_threshold;
    bool class_agnostic;
    int max_detections;
};

struct NmsOutput {
    u32* matrices;
    u32* tickets;
    const Frame* frames;
    int* results;
    int result_words;  // from one image to the next
    int* kept;         // null if nothing reads it
};

// A grid of SHARES × images, THREADS threads each. Afterwards `counts` and `tickets` are 0, ready for the next batch. The
// candidates are not cleared.
template <bool ROTATED>
__device__ __forceinline__ void suppress_all(
    Candidates candidates, u32* counts, int capacity, const NmsLimits& limits, const NmsOutput& out)
{
    __shared__ Sorted sorted;
    __shared__ Scratch scratch;
    __shared__ Frame frame;
    __shared__ Walk walk;
    __shared__ u32 ticket;
    const int image = blockIdx.y;
    const int share = blockIdx.x;
    const int thread = threadIdx.x;
    wait_for_the_one_ahead();
    // Block 0 may have set it to 0 before another block of a solo image starts. That block then returns as well.
    const u32 found = counts[image];
    const size_t base = (size_t)image * capacity;
    candidates.boxes += base;
    candidates.scores += base;
    candidates.class_ids += base;
    candidates.indices += base;
    if (ROTATED) candidates.angles += base;
    candidates.count = found < (u32)capacity ? (int)found : capacity;
    const bool is_solo = candidates.count <= SOLO;
    if (is_solo && share != 0) return;
    if (thread < (int)(sizeof(Frame) / 4)) {  // loaded early, so that no thread waits for it at the end
        reinterpret_cast<u32*>(&frame)[thread] = reinterpret_cast<const u32*>(out.frames + image)[thread];
    }

    const int n = select_best<ROTATED>(candidates, scratch, sorted);
    u32* matrix = is_solo ? scratch.suppressing.matrix : out.matrices + (size_t)image * MAX_SELECTED * WORDS;
    const int width = is_solo ? (int)SOLO_WORDS : (int)WORDS;
    const int warp = is_solo ? thread / 32 : (share * THREADS + thread) / 32;
    const int warps = is_solo ? THREADS / 32 : SHARES * (THREADS / 32);
    compare<ROTATED>(sorted, n, limits.iou_threshold, limits.class_agnostic, warp, warps, matrix, width);
    if (!is_solo) __threadfence();  // all blocks see its words before they see its ticket
    __syncthreads();
    if (!is_solo) {
        if (thread == 0) ticket = atomicAdd(&out.tickets[image], 1u);
        __syncthreads();
        if (ticket != SHARES - 1) return;
        __threadfence();
    }

    const int most = limits.max_detections;
    int* kept = scratch.suppressing.kept;
    if (ROTATED) {
        suppress_by_any(matrix, width, n, most, walk, kept);
    } else {
        suppress(matrix, width, n, most, walk, kept);
    }
    int* result = out.results + (size_t)image * out.result_words;
    if (thread == 0) {
        counts[image] = 0;
        out.tickets[image] = 0;
        result[0] = walk.count;
        result[1] = (int)found;
        result[2] = (int)found - candidates.count;
        result[3] = candidates.count - n;
    }
    write_result<ROTATED>(candidates, sorted, kept, walk.count, frame, most, result + 4);
    if (ROTATED || out.kept == nullptr) return;
    const Kept handed = kept_of(out.kept, image, most);
    if (thread == 0) *handed.count = walk.count;
    for (int at = thread; at < walk.count; at += THREADS) {
        handed.boxes[at] = sorted.shapes[kept[at]];
        handed.indices[at] = sorted.places[kept[at]];
    }
}

extern "C" __global__ void nms(
    const float4* boxes, const float* scores, const int* class_ids, const int* indices, u32* counts, int capacity,
    float iou_threshold, int class_agnostic, int in_order, int max_detections, u32* matrices, u32* tickets, const Frame* frames,
    int* results, int result_words, int* kept)
{
    const Candidates candidates = {boxes, scores, class_ids, indices, nullptr, 0, in_order != 0};
    const NmsLimits limits = {iou_threshold, class_agnostic != 0, max_detections};
    const NmsOutput out = {matrices, tickets, frames, results, result_words, kept};
    suppress_all<false>(candidates, counts, capacity, limits, out);
}

extern "C" __global__ void nms_rotated(
    const float4* boxes, const float* scores, const int* class_ids, const int* indices, u32* counts, int capacity,
    float iou_threshold, int class_agnostic, int in_order, int max_detections, u32* matrices, u32* tickets, const Frame* frames,
    int* results, int result_words, const float* angles)
{
    const Candidates candidates = {boxes, scores, class_ids, indices, angles, 0, in_order != 0};
    const NmsLimits limits = {iou_threshold, class_agnostic != 0, max_detections};
    const NmsOutput out = {matrices, tickets, frames, results, result_words, nullptr};
    suppress_all<true>(candidates, counts, capacity, limits, out);
}
