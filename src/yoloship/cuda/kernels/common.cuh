// What all kernels share: the frame descriptor, and half precision without a toolkit header.
//
// Everything is compiled with --fmad=false. A product and the sum after it are rounded separately, so float32 arithmetic
// gives the same bits as NumPy. The tests on the host compile the same files as plain C++, with loops for the grid.

#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

// How YUV becomes RGB: see `bgr_of` in letterbox.cu. In 1/8192, but for the offset.
struct Colours {
    short luma;
    short red_v;
    short blue_u;
    short green_u;
    short green_v;
    short luma_offset;  // of black, in 1/8 of an 8-bit step
};

// One source image and its place on the model's canvas. Mirrors FRAME_DTYPE in letterbox.py, byte for byte.
//
// Rows, pixels, height and width are those of the upright image. If it is stored turned or mirrored, `data` is where its
// first pixel lies, and the steps from there may be negative.
struct Frame {
    const u8* data;      // packed pixels, or the luma plane of NV12 and P010
    const u8* chroma;    // the interleaved chroma plane of NV12 and P010, otherwise null
    double scale_y;      // source pixels for one resized pixel: 1 / (resized / source), in this order of divisions
    double scale_x;
    int pitch;           // bytes from one row to the next
    int step;            // bytes from one pixel to the next in a row
    int chroma_pitch;    // the same for the chroma plane, in its own pixels
    int chroma_step;
    int chroma_shift;    // 1: y is odd where a chroma row begins; 2: x is; 3: both
    int height;          // of the source, in pixels
    int width;
    int resized_height;  // of the scaled image, in model pixels
    int resized_width;
    int top;             // padding before it, in model pixels
    int left;
    int format;          // FORMAT_*
    Colours colours;     // of NV12 and P010
    int reserved;
    const u8* source;    // pixels in pinned host memory, which fetch.cu copies to `data` first; otherwise null
};
static_assert(sizeof(Frame) == 104, "Frame and FRAME_DTYPE have drifted apart");

enum { FORMAT_BGR = 0, FORMAT_RGB = 1, FORMAT_NV12 = 2, FORMAT_P010 = 3 };

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

// Programmatic dependent launch: a kernel that was launched to begin early waits here for all that the one ahead writes.
// Without such a launch, and before compute capability 9.0, it does nothing.
__device__ __forceinline__ void wait_for_the_one_ahead()
{
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" : : : "memory");
#endif
}

// Lets such a kernel behind this one begin as soon as all blocks of this one have come here.
__device__ __forceinline__ void let_the_next_begin()
{
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;");
#endif
}
#endif

__device__ __forceinline__ float to_float(float value) { return value; }

__device__ __forceinline__ int clamp(int value, int low, int high)
{
    return value < low ? low : (value > high ? high : value);
}

__device__ __forceinline__ bool finite(float value) { return fabsf(value) <= 3.402823466e38f; }  // false for NaN
