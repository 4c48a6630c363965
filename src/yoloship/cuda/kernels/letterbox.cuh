// What the letterbox kernels share: which source pixels a pixel of the canvas is made of, how they are weighed, and how the
// result is written.
//
// A canvas of H × W holds the image, scaled to h' × w', with its corner at (top, left). The rest is grey.
// With s = source / resized for one axis, the centre of resized pixel d is at
//
//     p(d) = (d + ½)·s − ½                                  in float64, then rounded to float32,
//     i = ⌊p⌋,  t = p − i,  weights  round(2048·(1 − t)), round(2048·t)         (11-bit fixed point).
//
// Horizontally, t = 0 if i or i + 1 is outside the image. Vertically, only the indices are clamped, not t. If A and B are
// the two rows, each weighted horizontally (sums of 19 bits), and u, v the vertical weights, a channel is
//
//     ( ((u·(A >> 4)) >> 16) + ((v·(B >> 4)) >> 16) + 2 ) >> 2.
//
// This is what cv2.resize(uint8, INTER_LINEAR) computes, bit for bit (measured against OpenCV 4.14 and 5.0 over
// thousands of sizes), so the GPU and the CPU pipeline feed a model the same numbers. A frame that is stored turned or
// mirrored is scaled as if it had been made upright first.

#pragma once

#include "common.cuh"

struct Pixel { int blue, green, red; };

// Two source indices of one axis with their weights, which add up to 2048 ± 1.
struct Tap { int first, second, first_weight, second_weight; };

__device__ __forceinline__ Tap tap_at(int position, double scale, int extent, bool across)
{
    const float centre = (float)((position + 0.5) * scale - 0.5);
    int index = (int)floorf(centre);
    float t = centre - (float)index;
    if (across && index < 0) { index = 0; t = 0.0f; }
    if (across && index >= extent - 1) { index = extent - 1; t = 0.0f; }
    Tap tap;
    tap.first = clamp(index, 0, extent - 1);
    tap.second = clamp(index + 1, 0, extent - 1);
    tap.first_weight = __float2int_rn((1.0f - t) * 2048.0f);
    tap.second_weight = __float2int_rn(t * 2048.0f);
    return tap;
}

__device__ __forceinline__ int blend(int a, int b, int c, int d, const Tap& down, const Tap& across)
{
    const int upper = a * across.first_weight + b * across.second_weight;
    const int lower = c * across.first_weight + d * across.second_weight;
    return (((down.first_weight * (upper >> 4)) >> 16) + ((down.second_weight * (lower >> 4)) >> 16) + 2) >> 2;
}

// Blue for red, if the frame's pixels are in that order.
__device__ __forceinline__ void in_order(const Frame& frame, Pixel& pixel)
{
    if (frame.format != FORMAT_RGB) return;
    const int red = pixel.blue;
    pixel.blue = pixel.red;
    pixel.red = red;
}

// The output. Float forms are planes red, green, blue of value / 255. The byte form is pixels blue, green, red.
__device__ __forceinline__ void put(float* out, int image, int y, int x, int height, int width, const Pixel& pixel)
{
    const size_t plane = (size_t)height * width;
    float* at = out + (size_t)image * 3 * plane + (size_t)y * width + x;
    at[0] = (float)pixel.red / 255.0f;
    at[plane] = (float)pixel.green / 255.0f;
    at[2 * plane] = (float)pixel.blue / 255.0f;
}

__device__ __forceinline__ void put(half_bits* out, int image, int y, int x, int height, int width, const Pixel& pixel)
{
    const size_t plane = (size_t)height * width;
    half_bits* at = out + (size_t)image * 3 * plane + (size_t)y * width + x;
    at[0] = to_half((float)pixel.red / 255.0f);
    at[plane] = to_half((float)pixel.green / 255.0f);
    at[2 * plane] = to_half((float)pixel.blue / 255.0f);
}

__device__ __forceinline__ void put(u8* out, int image, int y, int x, int height, int width, const Pixel& pixel)
{
    u8* at = out + 3 * (((size_t)image * height + y) * width + x);
    at[0] = (u8)pixel.blue;
    at[1] = (u8)pixel.green;
    at[2] = (u8)pixel.red;
}
