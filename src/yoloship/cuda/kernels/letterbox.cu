// From source pixels to the model's input, in one pass: scale, pad, normalise, lay out.
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
// thousands of sizes), so the GPU and the CPU pipeline feed a model the same numbers.

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

__device__ __forceinline__ int saturate(int value) { return clamp(value, 0, 255); }

// ITU-R BT.601, limited range, in 20-bit fixed point as in cv2.COLOR_YUV2BGR_NV12 (measured: identical):
// 1.164·(Y − 16) + {2.018·U, −0.391·U − 0.813·V, 1.596·V}.
__device__ __forceinline__ Pixel from_nv12(int luma, int u, int v)
{
    const int base = (luma > 16 ? luma - 16 : 0) * 1220542 + (1 << 19);
    u -= 128;
    v -= 128;
    Pixel pixel;
    pixel.blue = saturate((base + 2116026 * u) >> 20);
    pixel.green = saturate((base - 409993 * u - 852492 * v) >> 20);
    pixel.red = saturate((base + 1673527 * v) >> 20);
    return pixel;
}

// Not inlined, because there would be a copy for each pixel that a thread reads, and packed frames do not need it.
__device__ __noinline__ Pixel nv12_at(const u8* luma, const u8* chroma, int pitch, int chroma_pitch, int y, int x)
{
    const u8* pair = chroma + (size_t)(y >> 1) * chroma_pitch + (x & ~1);
    return from_nv12(luma[(size_t)y * pitch + x], pair[0], pair[1]);
}

__device__ __forceinline__ Pixel pixel_at(const Frame& frame, int y, int x)
{
    if (frame.format == FORMAT_NV12) {
        return nv12_at(frame.data, frame.chroma, frame.pitch, frame.chroma_pitch, y, x);
    }
    const u8* packed = frame.data + (size_t)y * frame.pitch + 3 * (size_t)x;
    const bool is_rgb = frame.format == FORMAT_RGB;
    Pixel pixel;
    pixel.blue = is_rgb ? packed[2] : packed[0];
    pixel.green = packed[1];
    pixel.red = is_rgb ? packed[0] : packed[2];
    return pixel;
}

__device__ __forceinline__ int blend(int a, int b, int c, int d, const Tap& down, const Tap& across)
{
    const int upper = a * across.first_weight + b * across.second_weight;
    const int lower = c * across.first_weight + d * across.second_weight;
    return (((down.first_weight * (upper >> 4)) >> 16) + ((down.second_weight * (lower >> 4)) >> 16) + 2) >> 2;
}

__device__ __forceinline__ Pixel bilinear(const Frame& frame, const Tap& down, const Tap& across)
{
    const Pixel a = pixel_at(frame, down.first, across.first);
    const Pixel b = pixel_at(frame, down.first, across.second);
    const Pixel c = pixel_at(frame, down.second, across.first);
    const Pixel d = pixel_at(frame, down.second, across.second);
    Pixel pixel;
    pixel.blue = blend(a.blue, b.blue, c.blue, d.blue, down, across);
    pixel.green = blend(a.green, b.green, c.green, d.green, down, across);
    pixel.red = blend(a.red, b.red, c.red, d.red, down, across);
    return pixel;
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

// A block has 32 × 8 threads. Each thread has one column and ROWS rows, 8 apart, and computes the horizontal tap once.
enum { ROWS = 4 };

template <typename Out>
__device__ __forceinline__ void letterbox(const Frame* frames, Out* out, int height, int width, int padding)
{
    const int image = blockIdx.z;
    const int x = blockIdx.x * 32 + threadIdx.x;
    if (x >= width) return;
    const Frame frame = frames[image];
    const Pixel grey = {padding, padding, padding};
    const int column = x - frame.left;
    const bool inside_x = column >= 0 && column < frame.resized_width;
    const Tap across = tap_at(inside_x ? column : 0, frame.scale_x, frame.width, true);
#pragma unroll 2
    for (int step = 0; step < ROWS; ++step) {
        const int y = (blockIdx.y * ROWS + step) * 8 + threadIdx.y;
        if (y >= height) return;
        const int row = y - frame.top;
        Pixel pixel = grey;
        if (inside_x && row >= 0 && row < frame.resized_height) {
            pixel = bilinear(frame, tap_at(row, frame.scale_y, frame.height, false), across);
        }
        put(out, image, y, x, height, width, pixel);
    }
}

extern "C" __global__ void letterbox_f32(const Frame* frames, float* out, int height, int width, int padding)
{
    letterbox(frames, out, height, width, padding);
}

extern "C" __global__ void letterbox_f16(const Frame* frames, half_bits* out, int height, int width, int padding)
{
    letterbox(frames, out, height, width, padding);
}

extern "C" __global__ void letterbox_u8(const Frame* frames, u8* out, int height, int width, int padding)
{
    letterbox(frames, out, height, width, padding);
}
