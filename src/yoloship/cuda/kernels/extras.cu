// The keypoints of the kept detections, from the network's output to source pixels.
//
// K points of D numbers each, in the order x, y and, if D is 3, the visibility v. For the cell at row y₀, column x₀:
//
//     KEYPOINTS_DECODED   x, y in model pixels and v in [0, 1], as they stand
//     KEYPOINTS_OFFSETS   x = (t + x₀ + ½)·stride   v = σ(t)     y like x
//
// Then x and y are brought to source pixels and clipped to the image. The visibility stays.

#include "candidates.cuh"
#include "kept.cuh"

enum { KEYPOINTS_DECODED = 0, KEYPOINTS_OFFSETS = 1 };

// Writes (max_detections, K·D) for each image behind the first words of its result. A grid of any number of blocks ×
// images.
template <typename Value>
__device__ __forceinline__ void gather_keypoints(
    const ExtraLevel* levels, int level_count, int classes, int form, int points, int dimensions, int* kept, int max_detections,
    const Frame* frames, int* results, int result_words, int first_word)
{
    const int image = blockIdx.y;
    const Kept handed = kept_of(kept, image, max_detections);
    const int numbers = points * dimensions;
    const int total = max_detections * numbers;
    const int wanted = *handed.count * numbers;
    float* out = reinterpret_cast<float*>(results + (size_t)image * result_words + first_word);
    for (int at = blockIdx.x * blockDim.x + threadIdx.x; at < total; at += gridDim.x * blockDim.x) {
        float value = 0.0f;
        if (at < wanted) {
            const int detection = at / numbers;
            const int number = at - detection * numbers;
            const int axis = number % dimensions;
            const ExtraPlace place = extra_place(levels, level_count, classes, handed.indices[detection]);
            value = extra_value<Value>(place, image, number);
            if (axis == 2) {
                if (form != KEYPOINTS_DECODED) value = sigmoid(value);
            } else {
                const int row = place.cell / place.level->width;
                const float cell = (float)(axis == 0 ? place.cell - row * place.level->width : row);
                if (form == KEYPOINTS_OFFSETS) value = (value + (cell + 0.5f)) * place.level->stride;
                value = to_source(frames[image], value, axis);
            }
        }
        out[at] = value;
    }
}

extern "C" __global__ void gather_keypoints_f32(
    const ExtraLevel* levels, int level_count, int classes, int form, int points, int dimensions, int* kept, int max_detections,
    const Frame* frames, int* results, int result_words, int first_word)
{
    gather_keypoints<float>(
        levels, level_count, classes, form, points, dimensions, kept, max_detections, frames, results, result_words, first_word);
}

extern "C" __global__ void gather_keypoints_f16(
    const ExtraLevel* levels, int level_count, int classes, int form, int points, int dimensions, int* kept, int max_detections,
    const Frame* frames, int* results, int result_words, int first_word)
{
    gather_keypoints<half_bits>(
        levels, level_count, classes, form, points, dimensions, kept, max_detections, frames, results, result_words, first_word);
}
