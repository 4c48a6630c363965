// What suppression hands on to extras.cu and masks.cu, and the way back from model pixels to source pixels.

#pragma once

#include "candidates.cuh"

// What extras.cu and masks.cu read of an image. Mirrors kept_words in postprocess.py: a count and three unused words,
// then for max_detections the boxes in model pixels, then the indices.
struct Kept {
    int* count;
    float4* boxes;
    int* indices;
};

__device__ __forceinline__ Kept kept_of(int* block, int image, int max_detections)
{
    int* own = block + (size_t)image * (4 + 4 * max_detections + (max_detections + 3) / 4 * 4);
    const Kept found = {own, reinterpret_cast<float4*>(own + 4), own + 4 + 4 * max_detections};
    return found;
}

// From model pixel to source pixel: x_source = (x − left) / (w' / w) in float64, clipped to the image, as float32. If
// `side` (0 to 3 for x₁, y₁, x₂, y₂) is odd, the same for y with top and height. NaN stays NaN.
__device__ __forceinline__ float to_source(const Frame& frame, float canvas, int side)
{
    const bool is_row = (side & 1) != 0;
    const double extent = (double)(is_row ? frame.height : frame.width);
    const double gain = (double)(is_row ? frame.resized_height : frame.resized_width) / extent;
    const double before = (double)(is_row ? frame.top : frame.left);
    const float source = (float)(((double)canvas - before) / gain);
    return source < 0.0f ? 0.0f : (source > (float)extent ? (float)extent : source);
}

// Where the values behind the class scores of a candidate lie: value v of cell c of anchor a of image i is at
// data[i·image_step + a·anchor_step + v·value_step + c·cell_step]. Mirrors EXTRA_LEVEL_DTYPE in postprocess.py.
struct ExtraLevel {
    const void* data;
    long long image_step;
    int anchor_step;
    int value_step;
    int cell_step;
    int first;     // index of its first candidate
    int cells;     // of each anchor
    int width;     // in cells
    float stride;  // model pixels per cell
    int weight;    // so many values before the first is the objectness that multiplies all; negative if it is a logit
};
static_assert(sizeof(ExtraLevel) == 48, "ExtraLevel and EXTRA_LEVEL_DTYPE have drifted apart");

struct ExtraPlace { const ExtraLevel* level; int anchor, cell; };

// `classes` is 1, or if each class of a cell is a candidate of its own, their number.
__device__ __forceinline__ ExtraPlace extra_place(const ExtraLevel* levels, int level_count, int classes, int candidate)
{
    const int index = candidate / classes;
    const ExtraLevel* level = level_of(levels, level_count, index);
    const int anchor = (index - level->first) / level->cells;
    const ExtraPlace found = {level, anchor, index - level->first - anchor * level->cells};
    return found;
}

template <typename Value>
__device__ __forceinline__ float extra_value(const ExtraPlace& place, int image, int number)
{
    const ExtraLevel& level = *place.level;
    const Value* values = static_cast<const Value*>(level.data) + (size_t)image * level.image_step
                          + (size_t)place.anchor * level.anchor_step + (size_t)place.cell * level.cell_step;
    const float value = to_float(values[(size_t)number * level.value_step]);
    if (level.weight == 0) return value;
    const bool is_logit = level.weight < 0;
    const float weight = to_float(*(values - (size_t)(is_logit ? -level.weight : level.weight) * level.value_step));
    return value * (is_logit ? sigmoid(weight) : weight);
}
