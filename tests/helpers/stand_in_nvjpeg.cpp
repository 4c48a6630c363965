// A stand-in for NVIDIA's library nvJPEG, for tests on machines without a GPU. It has the functions that we call, and
// checks how they are called; the pixels come from a function that the test sets (see nvjpeg_standin.py). As the engine,
// it decodes a damaged file without a word, and refuses a whole batch for one file in another form than its own.
//
// With STAND_IN_JPEG_US="a,b" it decodes nothing, and sleeps: a microseconds for each batch, and b for each file.

#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <unistd.h>

namespace {
struct Image { unsigned char* channel[4]; size_t pitch[4]; };
struct Handle { int open = 1; };
struct State { int batch = 0; };
// Decodes a file to packed BGR rows; a status of nvJPEG.
typedef int (*Decoder)(const unsigned char* data, size_t length, unsigned char* pixels, size_t pitch);
Decoder decoder = nullptr;
double batch_us = 0, file_us = 0;
const char* const times = std::getenv("STAND_IN_JPEG_US");
const bool timed = times != nullptr && std::sscanf(times, "%lf,%lf", &batch_us, &file_us) == 2;
int handles = 0, calls = 0, largest = 0, fails = 0;
}  // namespace

extern "C" {
void stand_in_set_decoder(Decoder chosen) { decoder = chosen; }
void stand_in_fail(int status) { fails = status; }  // every batch from now on; 0 stops that
int stand_in_handles() { return handles; }          // what is open: decoders and their states
int stand_in_calls() { return calls; }              // batches so far
int stand_in_largest() { return largest; }          // files of the largest

int nvjpegGetProperty(int part, int* value)
{
    *value = part == 0 ? 13 : 0;
    return 0;
}
int nvjpegCreateEx(int backend, void* device_allocator, void* pinned_allocator, unsigned flags, void** handle)
{
    if (std::getenv("STAND_IN_NO_JPEG_ENGINE")) return 7;  // what a GPU without the engine says
    if (backend != 3 || device_allocator || pinned_allocator || flags != 32) return 2;
    *handle = new Handle;
    ++handles;
    return 0;
}
int nvjpegDestroy(void* handle)
{
    if (!handle) return 2;
    delete static_cast<Handle*>(handle);
    --handles;
    return 0;
}
int nvjpegJpegStateCreate(void* handle, void** state)
{
    if (!handle) return 2;
    *state = new State;
    ++handles;
    return 0;
}
int nvjpegJpegStateDestroy(void* state)
{
    if (!state) return 2;
    delete static_cast<State*>(state);
    --handles;
    return 0;
}
int nvjpegDecodeBatchedInitialize(void* handle, void* state, int batch, int threads, int format)
{
    if (!handle || !state || batch < 1 || threads != 1 || format != 6) return 2;
    static_cast<State*>(state)->batch = batch;
    return 0;
}
int nvjpegDecodeBatched(void* handle, void* state, const unsigned char* const* data, const size_t* lengths,
                        Image* images, void* stream)
{
    if (!handle || !state || !stream || !(decoder || timed)) return 2;
    const int batch = static_cast<State*>(state)->batch;
    if (batch < 1) return 1;
    ++calls;
    if (batch > largest) largest = batch;
    if (fails) return fails;
    if (timed) {
        usleep((useconds_t)(batch_us + file_us * batch));
        return 0;
    }
    for (int i = 0; i < batch; ++i) {
        const int status = decoder(data[i], lengths[i], images[i].channel[0], images[i].pitch[0]);
        if (status != 0) return status;
    }
    return 0;
}
}
