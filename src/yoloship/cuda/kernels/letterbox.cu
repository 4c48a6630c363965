// From source pixels in the device's memory to the model's input, in one pass: scale, pad, normalise, lay out.

#include "letterbox.cuh"

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
            in_order(frame, pixel);
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
