// What all kernels share: the frame descriptor, and half precision without a toolkit header.
//
// Everything is compiled with --fmad=false. A product and the sum after it are rounded separately, so float32 arithmetic
// gives the same bits as NumPy. The tests on the host compile the same files as plain C++, with loops for the grid.

#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

// One source image and its place on the model's canvas. Mirrors FRAME_DTYPE in letterbox.py, byte for byte.
struct Frame {
    const u8* data;      // packed pixels, or the luma plane of NV12
    const u8* chroma;    // the interleaved chroma plane of NV12, otherwise null
    double scale_y;      // source pixels for one resized pixel: 1 / (resized / source), in this order of divisions
    double scale_x;
    int pitch;           // bytes from one row to the next
    int chroma_pitch;
    int height;          // of the source, in pixels
    int width;
    int resized_height;  // of the scaled image, in model pixels
    int resized_width;
    int top;             // padding before it, in model pixels
    int left;
    int format;          // FORMAT_*
    int reserved;
    const u8* source;    // pixels in pinned host memory, which fetch.cu copies to `data` first; otherwise null
};
static_assert(sizeof(Frame) == 80, "Frame and FRAME_DTYPE have drifted apart");

enum { FORMAT_BGR = 0, FORMAT_RGB = 1, FORMAT_NV12 = 2 };

#ifdef __CUDACC__
struct half_bits { u16 bits; };

__device__ __forceinline__ float to_float(half_bits value)
{
    float result;
    asm("cvt.f32.f16 %0, %1;" : "=f"(result) : "h"(value.bits));
    return result;
}

__device__ __forceinline__ half_bits to_half(float value)  // round to nearest, ties to even
{
    half_bits result;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(result.bits) : "f"(value));
    return result;
}
#endif

__device__ __forceinline__ float to_float(float value) { return value; }

__device__ __forceinline__ int clamp(int value, int low, int high)
{
    return value < low ? low : (value > high ? high : value);
}

__device__ __forceinline__ bool finite(float value) { return fabsf(value) <= 3.402823466e38f; }  // false for NaN
