// From prototypes and mask coefficients to the masks of the kept detections: the bits inside their windows only.
//
// The reference is tasks/prototypes.py, whose rules these are. The value of a mask in a cell of the prototypes is the sum
// over p of coefficient p times prototype p, or σ of it (SQUASHES). It is upsampled by a whole factor, bilinearly with
// half-pixel centres, and the mask is where it exceeds the limit, inside the box:
//
//     CROPS_FIRST    cells outside the box are 0, then upsampled: the window is the box and a cell around it
//     otherwise      upsampled, then cut to the box
//     ON_IMAGE       upsampled `finer` times, cut to the image's part of the canvas, interpolated to source pixels, cut
//                    to the box in source pixels
//
// A window's bits are row by row, eight a byte, the first in the highest bit. They begin at a word of their own, and
// unused bits are 0. mask_windows settles where each window is and where its bits go. mask_bits fills them: each block
// takes CHUNK pixels of a window, computes the cells that they need in shared memory, and then the pixels, a warp 32 at a
// time. If the cells do not fit there, which only enlarged images have, each pixel computes its own.

#include "kept.cuh"

enum { WINDOW_THREADS = 256, MASK_THREADS = 256, CHUNK = 4096, SHARED_CELLS = 4096, MAX_COEFFICIENTS = 256 };
enum { WORDS_OF_WARP = CHUNK / MASK_THREADS };
enum { SQUASHES = 1, CROPS_FIRST = 2, ON_IMAGE = 4 };

// Where a mask is and where its bits are. WINDOW_BYTES in masks.py is its size.
struct Window {
    int top;
    int left;
    int height;
    int width;
    int first_word;  // of its bits among those of its image
    int cell_top;    // with CROPS_FIRST the cells of the box
    int cell_left;
    int cell_bottom;
    int cell_right;
    int reserved;
};
static_assert(sizeof(Window) == 40, "Window and WINDOW_BYTES have drifted apart");

struct MaskShape {
    int rule;           // SQUASHES, CROPS_FIRST, ON_IMAGE
    int prototypes;     // P
    int height;         // of the prototypes, in cells
    int width;
    int factor;         // canvas pixels per cell
    int max_detections;
    int capacity;       // words of bits for each image
};

// The first index at or after an edge, within [0, limit].
__device__ __forceinline__ int first_inside(double edge, int limit)
{
    const double up = ceil(edge);
    return up < 0.0 ? 0 : (up > (double)limit ? limit : (int)up);
}

// A number of words, or one that exceeds every capacity.
__device__ __forceinline__ int at_most(long long words) { return words > 0x3fffffff ? 0x3fffffff : (int)words; }

// One block for each image. `windows` has max_detections of them for each, and `heads` the words that all need.
extern "C" __global__ void mask_windows(
    int rule, int height, int width, int factor, int max_detections, int* kept, const Frame* frames, Window* windows,
    int* found, int* heads)
{
    __shared__ long long sums[WINDOW_THREADS];
    __shared__ long long so_far;
    const int image = blockIdx.x;
    const int thread = threadIdx.x;
    const Kept handed = kept_of(kept, image, max_detections);
    const Frame& frame = frames[image];
    const int count = *handed.count;
    if (thread == 0) so_far = 0;
    __syncthreads();
#pragma unroll 1
    for (int first = 0; first < count; first += WINDOW_THREADS) {
        const int own = first + thread;
        Window window = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
        if (own < count) {
            const float4 box = handed.boxes[own];
            if ((rule & ON_IMAGE) != 0) {
                float edges[4] = {box.x, box.y, box.z, box.w};
#pragma unroll
                for (int side = 0; side < 4; ++side) {
                    edges[side] = to_source(frame, edges[side], side);
                    if ((rule & SQUASHES) != 0) edges[side] = rintf(edges[side]);
                }
                window.left = first_inside(edges[0], frame.width);
                window.top = first_inside(edges[1], frame.height);
                window.width = first_inside(edges[2], frame.width) - window.left;
                window.height = first_inside(edges[3], frame.height) - window.top;
            } else if ((rule & CROPS_FIRST) != 0) {
                window.cell_left = first_inside((double)box.x / factor, width);
                window.cell_top = first_inside((double)box.y / factor, height);
                window.cell_right = first_inside((double)box.z / factor, width);
                window.cell_bottom = first_inside((double)box.w / factor, height);
                if (window.cell_right > window.cell_left && window.cell_bottom > window.cell_top) {
                    const int left = clamp(window.cell_left - 1, 0, width);
                    const int top = clamp(window.cell_top - 1, 0, height);
                    window.left = left * factor;
                    window.top = top * factor;
                    window.width = (clamp(window.cell_right + 1, 0, width) - left) * factor;
                    window.height = (clamp(window.cell_bottom + 1, 0, height) - top) * factor;
                }
            } else {
                window.left = first_inside(box.x, width * factor);
                window.top = first_inside(box.y, height * factor);
                window.width = first_inside(box.z, width * factor) - window.left;
                window.height = first_inside(box.w, height * factor) - window.top;
            }
            if (window.width <= 0 || window.height <= 0) {
                window.left = window.top = window.width = window.height = 0;
            }
        }
        const long long words = ((long long)window.width * window.height + 31) / 32;
        sums[thread] = words;
        __syncthreads();
#pragma unroll 1
        for (int step = 1; step < WINDOW_THREADS; step <<= 1) {
            const long long before = thread >= step ? sums[thread - step] : 0;
            __syncthreads();
            sums[thread] += before;
            __syncthreads();
        }
        const long long base = so_far;
        __syncthreads();
        if (thread == WINDOW_THREADS - 1) so_far = base + sums[thread];
        window.first_word = at_most(base + sums[thread] - words);
        if (own < count) {
            windows[(size_t)image * max_detections + own] = window;  // for mask_bits
            int* out = found + ((size_t)image * max_detections + own) * 5;  // for the host
            out[0] = window.top;
            out[1] = window.left;
            out[2] = window.height;
            out[3] = window.width;
            out[4] = window.first_word;
        }
        __syncthreads();
    }
    if (thread == 0) heads[image] = at_most(so_far);
}

// How the pixels of a window find their cells along one axis.
struct Axis {
    int cells;    // of the prototypes
    int factor;   // how many times they are upsampled
    int start;    // ON_IMAGE: of the image's part of the upsampled cells
    int length;   // ON_IMAGE: of that part
    float scale;  // ON_IMAGE: upsampled cells for each source pixel

    // The two upsampled cells that a source pixel lies between, and the weight of the second. Without ON_IMAGE, the
    // pixel is one of the upsampled cells.
    __device__ __forceinline__ float between(int pixel, int& low, int& high) const
    {
        if (length == 0) {
            low = high = pixel;
            return 0.0f;
        }
        const float place = fmaxf(((float)pixel + 0.5f) * scale - 0.5f, 0.0f);
        const int below = clamp((int)place, 0, length - 1);
        low = start + below;
        high = start + clamp(below + 1, 0, length - 1);
        return place - (float)below;
    }

    // The two cells that an upsampled cell lies between, and the weight of the second.
    __device__ __forceinline__ float cell_of(int upsampled, int& low, int& high) const
    {
        if (factor == 1) {
            low = high = upsampled;
            return 0.0f;
        }
        const float place = ((float)upsampled + 0.5f) * (1.0f / (float)factor) - 0.5f;
        const int below = (int)floorf(place);
        low = clamp(below, 0, cells - 1);
        high = clamp(below + 1, 0, cells - 1);
        return place - (float)below;
    }

    __device__ __forceinline__ int first_cell(int pixel) const
    {
        int low, high, cell, next;
        between(pixel, low, high);
        cell_of(low, cell, next);
        return cell;
    }

    __device__ __forceinline__ int last_cell(int pixel) const
    {
        int low, high, cell, next;
        between(pixel, low, high);
        cell_of(high, cell, next);
        return next;
    }
};

// The image's part of the upsampled cells along one axis; `_inner` of tasks/prototypes.py in float64.
__device__ __forceinline__ void set_image_part(Axis& axis, double gain, int side, int padding, int factor, bool whole)
{
    int stop;
    if (whole) {
        axis.start = padding * axis.factor / factor;
        stop = axis.start + (int)rint(side * gain);
    } else {
        const double pad = (axis.cells - side * gain) / 2.0;
        axis.start = (int)pad;
        stop = (int)(axis.cells - pad);
    }
    axis.length = stop > axis.start ? stop - axis.start : 1;
    axis.scale = (float)((double)axis.length / side);
}

__device__ __forceinline__ void axes_of(const MaskShape& shape, const Frame& frame, Axis& down, Axis& across)
{
    down = {shape.height, shape.factor, 0, 0, 0.0f};
    across = {shape.width, shape.factor, 0, 0, 0.0f};
    if ((shape.rule & ON_IMAGE) == 0) return;
    const bool whole = (shape.rule & CROPS_FIRST) == 0;
    int finer = 1;
#pragma unroll 1
    while (whole && finer < shape.factor
           && (frame.top * finer % shape.factor != 0 || frame.left * finer % shape.factor != 0)) {
        finer *= 2;
    }
    if (finer > shape.factor) finer = shape.factor;
    down.factor = across.factor = finer;
    const double by_height = (double)(shape.height * finer) / frame.height;
    const double by_width = (double)(shape.width * finer) / frame.width;
    const double gain = by_height < by_width ? by_height : by_width;
    set_image_part(down, gain, frame.height, frame.top, shape.factor, whole);
    set_image_part(across, gain, frame.width, frame.left, shape.factor, whole);
}

// The values of one mask in the cells of the prototypes: those around a chunk are in shared memory, if they fit there.
template <typename Value>
struct Cells {
    const Value* prototypes;    // of this image
    const float* coefficients;  // in shared memory
    const float* computed;      // in shared memory, rows × columns
    int top;
    int left;
    int rows;
    int columns;
    bool are_computed;
    bool squashes;
    bool crops_first;
    int box_top, box_left, box_bottom, box_right;

    __device__ __forceinline__ float compute(const MaskShape& shape, int row, int column) const
    {
        if (crops_first && (row < box_top || row >= box_bottom || column < box_left || column >= box_right)) return 0.0f;
        const size_t plane = (size_t)shape.height * shape.width;
        const Value* values = prototypes + (size_t)row * shape.width + column;
        float sum = 0.0f;
#pragma unroll 8
        for (int number = 0; number < shape.prototypes; ++number) {
            sum += coefficients[number] * to_float(values[number * plane]);
        }
        return squashes ? sigmoid(sum) : sum;
    }

    __device__ __forceinline__ float at(const MaskShape& shape, int row, int column) const
    {
        return are_computed ? computed[(row - top) * columns + column - left] : compute(shape, row, column);
    }

    // An upsampled cell: linear along the columns, then along the rows, as OpenCV's resize does it.
    __device__ __forceinline__ float upsampled(
        const MaskShape& shape, const Axis& down, const Axis& across, int row, int column) const
    {
        int low_row, high_row, low_column, high_column;
        const float row_weight = down.cell_of(row, low_row, high_row);
        const float column_weight = across.cell_of(column, low_column, high_column);
        const int sides = down.factor == 1 ? 1 : 2;
        float value = 0.0f;
#pragma unroll 1
        for (int which = 0; which < sides; ++which) {
            const int own = which == 0 ? low_row : high_row;
            float line = 0.0f;
#pragma unroll 1
            for (int side = 0; side < sides; ++side) {
                const float weight = side == 0 ? 1.0f - column_weight : column_weight;
                line += at(shape, own, side == 0 ? low_column : high_column) * weight;
            }
            value += line * (which == 0 ? 1.0f - row_weight : row_weight);
        }
        return value;
    }

    // A pixel of the window: an upsampled cell, or with ON_IMAGE four of them, linear along the rows, then the columns.
    __device__ __forceinline__ float pixel(
        const MaskShape& shape, const Axis& down, const Axis& across, int row, int column) const
    {
        int low_row, high_row, low_column, high_column;
        const float row_weight = down.between(row, low_row, high_row);
        const float column_weight = across.between(column, low_column, high_column);
        const int sides = down.length == 0 ? 1 : 2;
        float value = 0.0f;
#pragma unroll 1
        for (int which = 0; which < sides; ++which) {
            const int own = which == 0 ? low_column : high_column;
            float line = 0.0f;
#pragma unroll 1
            for (int side = 0; side < sides; ++side) {
                const float weight = side == 0 ? 1.0f - row_weight : row_weight;
                line += upsampled(shape, down, across, side == 0 ? low_row : high_row, own) * weight;
            }
            value += line * (which == 0 ? 1.0f - column_weight : column_weight);
        }
        return value;
    }
};

// 32 bits of a ballot as four bytes of which each has its first bit highest.
__device__ __forceinline__ u32 as_bytes(u32 ballot)
{
    u32 bits = ballot;
    bits = ((bits >> 1) & 0x55555555u) | ((bits & 0x55555555u) << 1);
    bits = ((bits >> 2) & 0x33333333u) | ((bits & 0x33333333u) << 2);
    return ((bits >> 4) & 0x0f0f0f0fu) | ((bits & 0x0f0f0f0fu) << 4);
}

// A grid of shares of a window × detections × images. Block (x, y) takes the chunks x, x + gridDim.x, … of the detections
// y, y + gridDim.y, …
template <typename Value>
__device__ __forceinline__ void mask_bits(
    const MaskShape& shape, const ExtraLevel* levels, int level_count, int classes, const Value* prototypes, int* kept,
    const Frame* frames, const Window* windows, u32* bits)
{
    __shared__ float coefficients[MAX_COEFFICIENTS];
    __shared__ float computed[SHARED_CELLS];
    const int image = blockIdx.z;
    const int thread = threadIdx.x;
    const Kept handed = kept_of(kept, image, shape.max_detections);
    const int count = *handed.count;
    if ((int)blockIdx.y >= count) return;
    Axis down, across;
    axes_of(shape, frames[image], down, across);
    const float limit = (shape.rule & SQUASHES) != 0 ? 0.5f : 0.0f;
    Cells<Value> cells;
    cells.prototypes = prototypes + (size_t)image * shape.prototypes * shape.height * shape.width;
    cells.coefficients = coefficients;
    cells.computed = computed;
    cells.squashes = (shape.rule & SQUASHES) != 0;
    cells.crops_first = (shape.rule & (CROPS_FIRST | ON_IMAGE)) == CROPS_FIRST;

#pragma unroll 1
    for (int own = blockIdx.y; own < count; own += gridDim.y) {
        const Window window = windows[(size_t)image * shape.max_detections + own];
        const long long area = (long long)window.width * window.height;
        if (window.first_word + (area + 31) / 32 > shape.capacity) continue;  // the same for all threads
        const int pixels = (int)area;
        if ((int)blockIdx.x * CHUNK >= pixels) continue;
        cells.box_top = window.cell_top;
        cells.box_left = window.cell_left;
        cells.box_bottom = window.cell_bottom;
        cells.box_right = window.cell_right;
        u32* out = bits + (size_t)image * shape.capacity + window.first_word;
        const ExtraPlace place = extra_place(levels, level_count, classes, handed.indices[own]);
        __syncthreads();  // the cells of the last mask are no longer read
        for (int number = thread; number < shape.prototypes; number += MASK_THREADS) {
            coefficients[number] = extra_value<Value>(place, image, number);
        }
        __syncthreads();

#pragma unroll 1
        for (int first = blockIdx.x * CHUNK; first < pixels; first += gridDim.x * CHUNK) {
            const int stop = first + CHUNK < pixels ? first + CHUNK : pixels;
            const int first_row = first / window.width;
            const int last_row = (stop - 1) / window.width;
            const bool is_one_row = first_row == last_row;
            const int first_column = is_one_row ? first - first_row * window.width : 0;
            const int last_column = is_one_row ? stop - 1 - last_row * window.width : window.width - 1;
            cells.top = down.first_cell(window.top + first_row);
            cells.left = across.first_cell(window.left + first_column);
            cells.rows = down.last_cell(window.top + last_row) - cells.top + 1;
            cells.columns = across.last_cell(window.left + last_column) - cells.left + 1;
            cells.are_computed = cells.rows * cells.columns <= SHARED_CELLS;
            if (cells.are_computed) {
                for (int cell = thread; cell < cells.rows * cells.columns; cell += MASK_THREADS) {
                    const int row = cell / cells.columns;
                    computed[cell] = cells.compute(shape, cells.top + row, cells.left + cell - row * cells.columns);
                }
            }
            __syncthreads();
            // Each lane keeps one word, so that a warp writes its words together: they may go to the host's memory.
            const int lane = thread & 31;
            const int base = first + thread / 32 * WORDS_OF_WARP * 32;
            u32 own_word = 0;
#pragma unroll 1
            for (int turn = 0; turn < WORDS_OF_WARP && base + turn * 32 < stop; ++turn) {
                const int pixel = base + turn * 32 + lane;
                bool is_set = false;
                if (pixel < stop) {
                    const int row = pixel / window.width;
                    const int column = pixel - row * window.width;
                    is_set = cells.pixel(shape, down, across, window.top + row, window.left + column) > limit;
                }
                const u32 ballot = __ballot_sync(0xffffffffu, is_set);
                if (lane == turn) own_word = as_bytes(ballot);
            }
            if (lane < WORDS_OF_WARP && base + lane * 32 < stop) out[base / 32 + lane] = own_word;
            __syncthreads();
        }
    }
}

extern "C" __global__ void mask_bits_f32(
    int rule, int count, int height, int width, int factor, int max_detections, int capacity, const ExtraLevel* levels,
    int level_count, int classes, const float* prototypes, int* kept, const Frame* frames, const Window* windows, u32* bits)
{
    const MaskShape shape = {rule, count, height, width, factor, max_detections, capacity};
    mask_bits<float>(shape, levels, level_count, classes, prototypes, kept, frames, windows, bits);
}

extern "C" __global__ void mask_bits_f16(
    int rule, int count, int height, int width, int factor, int max_detections, int capacity, const ExtraLevel* levels,
    int level_count, int classes, const half_bits* prototypes, int* kept, const Frame* frames, const Window* windows, u32* bits)
{
    const MaskShape shape = {rule, count, height, width, factor, max_detections, capacity};
    mask_bits<half_bits>(shape, levels, level_count, classes, prototypes, kept, frames, windows, bits);
}
