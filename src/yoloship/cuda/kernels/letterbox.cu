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
// thousands of sizes), so the GPU and the CPU pipeline feed a model the same numbers. A frame that is stored turned or
// mirrored is scaled as if it had been made upright first.

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

// The pixel of a luma sample and a pair of chroma samples, all of them in 1/8 of an 8-bit step.
//
// 8-bit samples: exactly what libswscale's vector code for x86 makes of yuv420p (measured: identical), where each product
// loses its fraction. Samples of more bits go another way there, which rounds; so does this.
template <bool exact_fraction>
__device__ __forceinline__ Pixel bgr_of(int luma, int u, int v, const Colours& colours)
{
    const int y = (luma - colours.luma_offset) * colours.luma;
    u -= 1024;
    v -= 1024;
    Pixel pixel;
    if (exact_fraction) {
        const int half = 1 << 15;
        pixel.blue = saturate((y + u * colours.blue_u + half) >> 16);
        pixel.green = saturate((y + u * colours.green_u + v * colours.green_v + half) >> 16);
        pixel.red = saturate((y + v * colours.red_v + half) >> 16);
    } else {
        pixel.blue = saturate((y >> 16) + ((u * colours.blue_u) >> 16));
        pixel.green = saturate((y >> 16) + ((u * colours.green_u) >> 16) + ((v * colours.green_v) >> 16));
        pixel.red = saturate((y >> 16) + ((v * colours.red_v) >> 16));
    }
    return pixel;
}

// Readers give the pixel at a row and a column of the upright image.

struct PackedReader {
    const u8* data;
    long long pitch;
    int step;

    __device__ __forceinline__ PackedReader(const Frame& frame) : data(frame.data), pitch(frame.pitch), step(frame.step) {}

    // Blue and red are still swapped if the frame is RGB.
    __device__ __forceinline__ Pixel at(int y, int x) const
    {
        const u8* packed = data + y * pitch + x * step;
        Pixel pixel;
        pixel.blue = packed[0];
        pixel.green = packed[1];
        pixel.red = packed[2];
        return pixel;
    }
};

// NV12, or P010 if a sample is a u16 whose upper 10 bits count. Each chroma sample serves four pixels.
template <typename Sample>
struct PlanesReader {
    const Frame& frame;

    __device__ __forceinline__ PlanesReader(const Frame& read) : frame(read) {}

    static __device__ __forceinline__ int eighths(u8 sample) { return sample << 3; }
    static __device__ __forceinline__ int eighths(u16 sample) { return sample >> 6 << 1; }

    __device__ __forceinline__ Pixel at(int y, int x) const
    {
        const u8* luma = frame.data + y * (long long)frame.pitch + x * frame.step;
        const int row = (y + (frame.chroma_shift & 1)) >> 1;
        const int column = (x + (frame.chroma_shift >> 1)) >> 1;
        const u8* chroma = frame.chroma + row * (long long)frame.chroma_pitch + column * (long long)frame.chroma_step;
        const Sample* pair = reinterpret_cast<const Sample*>(chroma);
        const int value = eighths(*reinterpret_cast<const Sample*>(luma));
        return bgr_of<sizeof(Sample) == 2>(value, eighths(pair[0]), eighths(pair[1]), frame.colours);
    }
};

__device__ __forceinline__ int blend(int a, int b, int c, int d, const Tap& down, const Tap& across)
{
    const int upper = a * across.first_weight + b * across.second_weight;
    const int lower = c * across.first_weight + d * across.second_weight;
    return (((down.first_weight * (upper >> 4)) >> 16) + ((down.second_weight * (lower >> 4)) >> 16) + 2) >> 2;
}

template <typename Reader>
__device__ __forceinline__ Pixel bilinear(const Reader& reader, const Tap& down, const Tap& across)
{
    const Pixel a = reader.at(down.first, across.first);
    const Pixel b = reader.at(down.first, across.second);
    const Pixel c = reader.at(down.second, across.first);
    const Pixel d = reader.at(down.second, across.second);
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

template <typename Reader, typename Out>
__device__ __forceinline__ void letterbox_rows(const Frame& frame, Out* out, int height, int width, int padding)
{
    const Reader reader(frame);
    const int x = blockIdx.x * 32 + threadIdx.x;
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
            pixel = bilinear(reader, tap_at(row, frame.scale_y, frame.height, false), across);
            if (frame.format == FORMAT_RGB) {
                const int red = pixel.blue;
                pixel.blue = pixel.red;
                pixel.red = red;
            }
        }
        put(out, blockIdx.z, y, x, height, width, pixel);
    }
}

template <typename Out>
__device__ __forceinline__ void letterbox(const Frame* frames, Out* out, int height, int width, int padding)
{
    if (blockIdx.x * 32 + threadIdx.x >= width) return;
    const Frame frame = frames[blockIdx.z];
    if (frame.format == FORMAT_NV12) {
        letterbox_rows<PlanesReader<u8>>(frame, out, height, width, padding);
    } else if (frame.format == FORMAT_P010) {
        letterbox_rows<PlanesReader<u16>>(frame, out, height, width, padding);
    } else {
        letterbox_rows<PackedReader>(frame, out, height, width, padding);
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
