// Whether the entropy-coded data of sequential Huffman JPEGs is sound, before hardware decodes it that never tells.
//
// Huffman codes can only be read from the front, but a reader that starts anywhere falls into step soon. So the data of
// an image is cut into chunks. Each thread reads one of them from a guessed state and notes the state at its end. Then
// each chunk whose predecessor ended in another state than it was read from is read again, until nothing changes. A
// chain without contradictions that begins at the first bit is the sequential reading.
//
// Sound means: the data of each restart interval holds exactly its MCUs, with fewer than 8 bits after them; the markers
// between them are the right ones; the image's end marker follows, perhaps after padding zeros. libjpeg decodes all of
// that without a remark. It also takes some things that are refused here (fill bytes in the data, codes of sizes that
// no 8-bit image has, runs past the end of a block), which it and hardware may decode differently.
//
// The bits of a chunk are those of the bytes in it without stuffed zeros. A state is the number of bits after the
// chunk's beginning that belong to the symbol before, the block in the MCU and the coefficient in the block.
//
// Source: ITU-T T.81, annexes B, C and F.

#include "common.cuh"

enum {
    CHUNK_BYTES = 256,
    CHUNK_THREADS = 128,
    WARM_UP_CHUNKS = 16,  // of each block, before its own: they only lead into its first chunk
    OWN_CHUNKS = CHUNK_THREADS - WARM_UP_CHUNKS,
    JUDGE_THREADS = 256,
    LOOKUP_BITS = 10,
    LOOKUPS = 1 << LOOKUP_BITS,
    LONG_LOOKUPS = 1024,  // of the 16 bits of longer codes: usual tables have a few hundred
    TABLES = 4,           // DC 0, DC 1, AC 0, AC 1
    TABLE_BYTES = 16 + 256,
    REPAIRS = 8,          // rounds over the seams between blocks; an image that needs more is not judged
    MAX_DC_BITS = 11,
    MAX_AC_BITS = 10,
};

// One image. Mirrors SCAN_DTYPE in jpeg_check.py, byte for byte.
struct JpegScan {
    int data_at;        // where its data begins in the upload, a multiple of 16
    int data_bytes;     // from the first byte of entropy-coded data to the end of the file; then come 16 bytes 0xFF
    int chunks;         // data_bytes / CHUNK_BYTES + 1
    int first_chunk;    // its first element of the batch's chunks
    int mcus;
    int mcu_blocks;
    int restart_mcus;   // 0: no restart markers
    int pattern_blocks; // blocks after which the tables repeat; divides mcu_blocks
    u32 dc_tables;      // bit i: which DC table block i of the pattern uses
    u32 ac_tables;
    int reserved[2];
    u8 tables[TABLES][TABLE_BYTES];  // codes of each length 1 to 16, then their values
};
static_assert(sizeof(JpegScan) == 48 + TABLES * TABLE_BYTES, "JpegScan and SCAN_DTYPE have drifted apart");

enum { STATE_RESTART = 1 << 24, STATE_END = 2 << 24 };  // else: bits | coefficient << 8 | block << 16

enum { FOUND_FAULT = 1, FOUND_END = 2 };

// What reading a chunk from a state gave. "Ends" are ends of restart intervals, the end of the image included. An
// interval whose last blocks are followed by fewer than 8 bits may hold `low` to `high` blocks, as those bits may be
// padding.
struct Chunk {
    u32 from;       // the state from which it was read
    u32 to;         // the state in which the next one begins
    int blocks;     // since its beginning, or since the last end in it
    int ends;
    int restarts;
    int marker;     // the number of the first restart marker
    int low, high;              // blocks from its beginning to the first end in it
    int last_low, last_high;    // blocks of the interval that the image's end closes, if that is not the first end
    int end_at;     // the byte of the image's end marker
    int found;      // FOUND_*
};
static_assert(sizeof(Chunk) == 48, "Chunk and CHUNK_RESULT_BYTES have drifted apart");

struct Tables {
    u16 lookup[TABLES * LOOKUPS];  // see `symbol`; 0 for longer codes
    u16 longer[TABLES][LONG_LOOKUPS];
    u32 top[TABLES][17];           // for each length, the first 16 bits that no code of up to that length begins
    int offset[TABLES][17];        // from a code to the place of its value
    u8 values[TABLES][256];
};

// What a symbol does: how many bits it has with the number after it; SYMBOL_ZEROS for 16 zeros; << 8 what it adds to the
// coefficient's number. That ends the block if the sum is 64 or more. A sum from 65 to 127, where SYMBOL_ZEROS counts
// one, is a fault: the block is overrun, or no 8-bit image has such a symbol.
enum { SYMBOL_BITS = 31, SYMBOL_ZEROS = 1 << 5, STEP_FAULT = 64, STEP_END = 128 };
enum { NO_SYMBOL = 1 | SYMBOL_ZEROS | STEP_FAULT << 8, LEAST_FAULT = 65 };

__device__ __forceinline__ bool is_fault(u32 entry, int after)
{
    return (u32)(after + (int)(entry >> 5 & 1) - LEAST_FAULT) < (u32)(STEP_END - LEAST_FAULT);
}

__device__ __forceinline__ u32 symbol(int table, int length, int value)
{
    const int size = value & 15, run = value >> 4;
    if (table < 2) {  // DC: the coefficient's number is 0
        return (u32)(length + size) | (value <= MAX_DC_BITS ? 1u << 8 : (u32)(SYMBOL_ZEROS | STEP_FAULT << 8));
    }
    if (size == 0 && run == 15) return (u32)length | (u32)(SYMBOL_ZEROS | 16 << 8);
    if (size == 0) return (u32)length | (u32)(run == 0 ? STEP_END : STEP_FAULT) << 8;
    return (u32)(length + size) | (u32)(size <= MAX_AC_BITS ? run + 1 : STEP_FAULT) << 8;
}

// The symbol that 16 bits begin with, if its code has at least `length` bits.
__device__ __forceinline__ u32 find_symbol(const Tables& tables, int table, u32 bits, int length)
{
    for (; length <= 16; ++length) {
        if (bits < tables.top[table][length]) {
            const int place = (int)(bits >> (16 - length)) + tables.offset[table][length];
            return symbol(table, length, tables.values[table][place & 255]);
        }
    }
    return NO_SYMBOL;
}

// All threads of the block make the tables of an image. Ends with a barrier.
__device__ __forceinline__ void make_tables(const JpegScan& scan, Tables& tables)
{
    if (threadIdx.x < TABLES) {
        const int table = threadIdx.x;
        u32 code = 0;
        int place = 0;
        for (int length = 1; length <= 16; ++length) {
            const int count = scan.tables[table][length - 1];
            tables.offset[table][length] = place - (int)code;
            code += count;
            place += count;
            tables.top[table][length] = code << (16 - length);
            code <<= 1;
        }
    }
    for (int at = threadIdx.x; at < TABLES * 256; at += blockDim.x) {
        tables.values[at / 256][at % 256] = scan.tables[at / 256][16 + at % 256];
    }
    __syncthreads();
    for (int at = threadIdx.x; at < TABLES * LOOKUPS; at += blockDim.x) {
        const int table = at / LOOKUPS;
        const u32 bits = (u32)(at % LOOKUPS) << (16 - LOOKUP_BITS);
        const bool is_longer = bits >= tables.top[table][LOOKUP_BITS];
        tables.lookup[at] = is_longer ? 0 : (u16)find_symbol(tables, table, bits, 1);
    }
    for (int at = threadIdx.x; at < TABLES * LONG_LOOKUPS; at += blockDim.x) {
        const int table = at / LONG_LOOKUPS;
        const u32 bits = tables.top[table][LOOKUP_BITS] + (u32)(at % LONG_LOOKUPS);
        tables.longer[table][at % LONG_LOOKUPS] = (u16)find_symbol(tables, table, bits, LOOKUP_BITS + 1);
    }
    __syncthreads();
}

// Where the lookups lie. The compiler would work out an address in shared memory again for each symbol.
#ifdef __CUDACC__
typedef u32 Place;

__device__ __forceinline__ Place place_of(const u16* shared)
{
    Place place;
    asm volatile("{ .reg .u64 whole; cvta.to.shared.u64 whole, %1; cvt.u32.u64 %0, whole; }" : "=r"(place) : "l"(shared));
    return place;
}

__device__ __forceinline__ u32 load(Place place)
{
    u16 value;
    asm volatile("ld.shared.u16 %0, [%1];" : "=h"(value) : "r"(place));
    return value;
}
#else
typedef const u8* Place;

inline Place place_of(const u16* shared) { return reinterpret_cast<Place>(shared); }
inline u32 load(Place place) { return *reinterpret_cast<const u16*>(place); }
#endif

__device__ __noinline__ u32 long_symbol(const Tables& tables, int table, u32 bits)
{
    const u32 above = bits - tables.top[table][LOOKUP_BITS];
    return above < LONG_LOOKUPS ? tables.longer[table][above] : find_symbol(tables, table, bits, LOOKUP_BITS + 1);
}

// The next bits of the data, without stuffed zeros, up to a marker.
struct Bits {
    const u8* data;
    u64 buffer;   // its first `count` bits are the next ones; then zeros
    int count;
    int next;     // the byte to be loaded next, or the first of the marker
    int limit;    // where the chunk ends, a multiple of 4
    int edge;     // 0 if a marker is next, otherwise `limit`
    int beyond;   // how many bits of bytes from `limit` on were loaded
    u32 ahead;    // the aligned four bytes around `next`: a load takes longer than a symbol

    __device__ __forceinline__ void start(int at)
    {
        buffer = 0;
        count = 0;
        beyond = 0;
        next = at;
        edge = limit;
        look_ahead();
    }

    __device__ __forceinline__ void look_ahead() { ahead = *reinterpret_cast<const u32*>(data + (next & ~3)); }

    __device__ __forceinline__ void drop(int bits)
    {
        buffer <<= bits;
        count -= bits;
    }

    // With at most 32 bits left, get up to 32 more, unless a marker is next.
    __device__ __forceinline__ void fill()
    {
        if ((next & 3) == 0 && ((~ahead - 0x01010101u) & ahead & 0x80808080u) == 0) {  // no byte is 0xFF
            buffer |= (u64)__byte_perm(ahead, 0, 0x0123) << (32 - count);
            count += 32;
            if (next >= limit) beyond += 32;
            next += 4;
        } else {
            fill_by_bytes();
        }
        look_ahead();
    }

    // The same up to the end of the aligned four bytes. A stuffed zero after them is passed over too.
    __device__ __forceinline__ void fill_by_bytes()
    {
        const int end = (next & ~3) + 4;
#pragma unroll 1
        while (next < end) {
            const u32 byte = data[next];
            if (byte == 0xFF && data[next + 1] != 0) {
                edge = 0;
                return;
            }
            buffer |= (u64)byte << (56 - count);
            count += 8;
            if (next >= limit) beyond += 8;
            next += byte == 0xFF ? 2 : 1;
        }
    }

    // More than 32 bits, or all up to a marker.
    __device__ __forceinline__ void fill_up()
    {
        while (count <= 32 && edge != 0) fill();
    }
};

__device__ __forceinline__ bool is_restart(int marker) { return marker >= 0xD0 && marker <= 0xD7; }

// The guess for a chunk: a symbol, a block and an MCU begin with it. Behind a restart marker that is no guess.
__device__ __forceinline__ u32 guess(const u8* data, int at)
{
    return at > 0 && data[at - 1] == 0xFF && is_restart(data[at]) ? STATE_RESTART : 0;
}

// The place in a chunk where the image's last block ends.
struct Stop {
    int restarts;   // behind so many restart markers of the chunk
    int wanted;     // and so many blocks
    int from;       // the byte from which all must be 0 up to the end marker; -1 if a fault comes before it
};

// Read a chunk from a state, up to its end or to a stop.
template <bool STOPS>
__device__ __forceinline__ Chunk read_chunk(
    const u8* data, const JpegScan& scan, const Tables& tables, int number, u32 state, Stop& stop)
{
    Chunk chunk = {};
    chunk.from = state;
    chunk.low = chunk.high = chunk.last_low = chunk.last_high = -1;
    Bits bits;
    bits.data = data;
    bits.limit = (number + 1) * CHUNK_BYTES;
    int at = number * CHUNK_BYTES;
    if (state == STATE_RESTART) {
        at = at == 0 ? 1 : at;
        while (!(data[at - 1] == 0xFF && data[at] != 0)) ++at;
        ++at;
        state = 0;
    } else if (at > 0 && data[at - 1] == 0xFF && data[at] == 0) {
        ++at;
    }
    bits.start(at);
    bits.fill_up();
    const int used = (int)(state & 255);
    bits.drop(used < bits.count ? used : bits.count);
    const int pattern_blocks = scan.pattern_blocks;
    int coefficient = state >> 8 & 255, block = state >> 16 & 255;
    // Of each block of the pattern, two bits: its AC table, and the DC table of the next one.
    u32 choices = 0;
    for (int at = pattern_blocks - 1; at >= 0; --at) {
        const u32 following = at + 1 == pattern_blocks ? scan.dc_tables : scan.dc_tables >> (at + 1);
        choices = choices << 2 | (following & 1) << 1 | (scan.ac_tables >> at & 1);
    }
    // Where the lookups of this symbol begin; of the next one, if the block goes on; and if it ends.
    u32 going_on = (2 + (choices >> 2 * block & 1)) * LOOKUPS, ending = (choices >> 2 * block >> 1 & 1) * LOOKUPS;
    u32 lookups = coefficient == 0 ? (scan.dc_tables >> block & 1) * LOOKUPS : going_on;
    const Place place = place_of(tables.lookup);
    int low = -1, high = -1, blocks = 0, fault = 0;
    for (;;) {
        if (bits.count <= 32 && bits.edge != 0) bits.fill();
        u32 entry = load(place + 2 * (lookups + (u32)(bits.buffer >> (64 - LOOKUP_BITS))));
        int length = (int)(entry & SYMBOL_BITS);
        int after = coefficient + (int)(entry >> 8);
        bool wrong = is_fault(entry, after);
        if (STOPS || bits.next >= bits.edge || entry == 0 || wrong || length > bits.count) {
            if (STOPS && coefficient == 0 && blocks == stop.wanted && chunk.restarts == stop.restarts) {
                const int part = bits.count & 7;
                stop.from = bits.buffer << part == 0 && fault == 0 ? bits.next : -1;
                return chunk;
            }
            if (bits.count <= bits.beyond && bits.next >= bits.limit) {
                chunk.to = (u32)(bits.beyond - bits.count) | (u32)coefficient << 8 | (u32)block << 16;
                break;
            }
            if (entry == 0) {
                entry = long_symbol(tables, (int)(lookups / LOOKUPS), (u32)(bits.buffer >> 48));
                length = (int)(entry & SYMBOL_BITS);
                after = coefficient + (int)(entry >> 8);
                wrong = is_fault(entry, after);
            }
            if (bits.edge != 0) {
                if (length > bits.count) {
                    bits.fill();
                    continue;
                }
                if (wrong) fault = 1;
            } else {
                if (coefficient == 0 && block == 0 && bits.count < 8) {
                    if (low < 0) low = blocks;
                    high = blocks;
                }
                if (wrong || length > bits.count) {  // the end of the interval
                    if (low < 0) fault = 1;  // an MCU is not complete, or whole bytes follow it
                    const int marker = data[bits.next + 1];
                    const bool first = chunk.ends == 0;
                    ++chunk.ends;
                    if (first) {
                        chunk.low = low;
                        chunk.high = high;
                    }
                    if (!is_restart(marker)) {
                        chunk.to = STATE_END;
                        chunk.last_low = low;
                        chunk.last_high = high;
                        chunk.end_at = bits.next;
                        if (marker == 0xD9) chunk.found = FOUND_END; else fault = 1;
                        break;
                    }
                    const int interval_blocks = scan.restart_mcus * scan.mcu_blocks;
                    if (!first && (low > interval_blocks || high < interval_blocks)) fault = 1;
                    if (chunk.restarts == 0) chunk.marker = marker & 7;
                    if ((marker & 7) != ((chunk.marker + chunk.restarts) & 7)) fault = 1;
                    ++chunk.restarts;
                    coefficient = block = blocks = 0;
                    lookups = (scan.dc_tables & 1) * LOOKUPS;
                    going_on = (2 + (choices & 1)) * LOOKUPS;
                    ending = (choices >> 1 & 1) * LOOKUPS;
                    low = high = -1;
                    bits.start(bits.next + 2);
                    if (bits.next > bits.limit) {
                        chunk.to = STATE_RESTART;
                        break;
                    }
                    continue;
                }
            }
        }
        bits.drop(length);
        const bool ends = after >= 64;
        coefficient = ends ? 0 : after;
        lookups = ends ? ending : going_on;
        if (ends) {
            ++blocks;
            block = block + 1 == pattern_blocks ? 0 : block + 1;
        }
        going_on = (2 + (choices >> 2 * block & 1)) * LOOKUPS;
        ending = (choices >> 2 * block >> 1 & 1) * LOOKUPS;
    }
    chunk.blocks = blocks;
    if (fault != 0) chunk.found |= FOUND_FAULT;
    return chunk;
}

// A grid of blocks × images. Each block reads its own chunks and those for warming up, until they agree.
extern "C" __global__ void jpeg_read(const JpegScan* scans, const u8* upload, Chunk* all_chunks)
{
    __shared__ Tables tables;
    __shared__ u32 from[CHUNK_THREADS], to[CHUNK_THREADS];  // the states of each chunk
    __shared__ int list[CHUNK_THREADS];                     // the chunks that are to be read
    __shared__ int listed;
    const JpegScan& scan = scans[blockIdx.y];
    const int own = blockIdx.x * OWN_CHUNKS;
    if (own >= scan.chunks) return;
    make_tables(scan, tables);
    const u8* data = upload + scan.data_at;
    Chunk* chunks = all_chunks + scan.first_chunk;
    const int thread = threadIdx.x;
    const int first = own - WARM_UP_CHUNKS > 0 ? own - WARM_UP_CHUNKS : 0;
    const int count = own + OWN_CHUNKS < scan.chunks ? own + OWN_CHUNKS - first : scan.chunks - first;
    if (thread < count) from[thread] = guess(data, (first + thread) * CHUNK_BYTES);
    list[thread] = thread;
    if (thread == 0) listed = count;
    for (;;) {
        __syncthreads();
        const int work = listed;
        if (work == 0) break;
        if (thread < work) {
            const int place = list[thread], number = first + place;
            Stop none = {};
            const Chunk chunk = read_chunk<false>(data, scan, tables, number, from[place], none);
            to[place] = chunk.to;
            if (number >= own) chunks[number] = chunk;
        }
        __syncthreads();
        if (thread == 0) listed = 0;
        __syncthreads();
        if (thread > 0 && thread < count) {
            const u32 state = to[thread - 1];
            if (state != from[thread] && state != STATE_END) {
                from[thread] = state;
                list[atomicAdd(&listed, 1)] = thread;
            }
        }
    }
}

// A row of chunks in a few words: what the next ones need to know.
struct Carried {
    int blocks;    // since the last restart marker in them, or since their beginning
    int restarts;
};

__device__ __forceinline__ Carried joined(Carried first, Carried second)
{
    return Carried{second.blocks + (second.restarts == 0 ? first.blocks : 0), first.restarts + second.restarts};
}

// A block for each image, of JUDGE_THREADS. Writes 1 if the image is sound, otherwise 0.
extern "C" __global__ void jpeg_judge(const JpegScan* scans, const u8* upload, Chunk* all_chunks, int* verdicts)
{
    __shared__ Tables tables;
    __shared__ Carried carried[JUDGE_THREADS];
    __shared__ int flag, end_chunk, first_fault, first_break, reached;
    __shared__ Stop stop;
    const JpegScan& scan = scans[blockIdx.x];
    const u8* data = upload + scan.data_at;
    Chunk* chunks = all_chunks + scan.first_chunk;
    const int thread = threadIdx.x;
    bool ready = false;

    // The seams between the blocks of `jpeg_read`.
    const int seams = (scan.chunks - 1) / OWN_CHUNKS;
    for (int round = 0; round < REPAIRS; ++round) {
        if (thread == 0) flag = 0;
        __syncthreads();
        for (int seam = thread; seam < seams; seam += JUDGE_THREADS) {
            const int number = (seam + 1) * OWN_CHUNKS;
            const u32 state = chunks[number - 1].to;
            if (state != STATE_END && state != chunks[number].from) flag = 1;
        }
        __syncthreads();
        const bool whole = flag == 0;
        __syncthreads();
        if (whole) break;
        if (!ready) make_tables(scan, tables);
        ready = true;
        for (int seam = thread; seam < seams; seam += JUDGE_THREADS) {
            const int begin = (seam + 1) * OWN_CHUNKS;
            const int end = begin + OWN_CHUNKS < scan.chunks ? begin + OWN_CHUNKS : scan.chunks;
            u32 state = *const_cast<volatile u32*>(&chunks[begin - 1].to);
            for (int number = begin; number < end; ++number) {
                if (state == STATE_END || state == chunks[number].from) break;
    Stop none = {};
                chunks[number] = read_chunk<false>(data, scan, tables, number, state, none);
                state = chunks[number].to;
            }
        }
        __syncthreads();
    }

    // The chunk in which the image ends, the first one with a fault, and the first one that does not fit those before it.
    if (thread == 0) {
        end_chunk = scan.chunks;
        first_fault = scan.chunks;
        first_break = scan.chunks;
        reached = scan.chunks;
        flag = 0;
        stop.wanted = -1;
        stop.restarts = 0;
        stop.from = -1;
    }
    __syncthreads();
    const int share = (scan.chunks + JUDGE_THREADS - 1) / JUDGE_THREADS;
    const int begin = thread * share < scan.chunks ? thread * share : scan.chunks;
    const int end = begin + share < scan.chunks ? begin + share : scan.chunks;
    Carried mine = {0, 0};
    for (int number = begin; number < end; ++number) {
        const Chunk& chunk = chunks[number];
        if (chunk.to == STATE_END) atomicMin(&end_chunk, number);
        if ((chunk.found & FOUND_FAULT) != 0) atomicMin(&first_fault, number);
        if (number > 0 && chunk.from != chunks[number - 1].to) atomicMin(&first_break, number);
        mine = joined(mine, Carried{chunk.blocks, chunk.restarts});
    }
    carried[thread] = mine;
    __syncthreads();
    for (int step = 1; step < JUDGE_THREADS; step *= 2) {
        const Carried before = thread >= step ? carried[thread - step] : Carried{0, 0};
        __syncthreads();
        carried[thread] = joined(before, carried[thread]);
        __syncthreads();
    }
    mine = thread > 0 ? carried[thread - 1] : Carried{0, 0};

    // Every interval must hold its blocks. `reached` becomes the chunk in which the last one has them.
    const int restarts = scan.restart_mcus == 0 ? 0 : (scan.mcus - 1) / scan.restart_mcus;
    const int interval = scan.restart_mcus * scan.mcu_blocks;
    const int last = (scan.mcus - restarts * scan.restart_mcus) * scan.mcu_blocks;
    for (int number = begin; number < end && number <= end_chunk; ++number) {
        const Chunk& chunk = chunks[number];
        const bool ends = chunk.to == STATE_END;
        if (chunk.restarts > 0) {
            const bool full = mine.blocks + chunk.low <= interval && mine.blocks + chunk.high >= interval;
            const bool in_turn = chunk.marker == (mine.restarts & 7) && mine.restarts + chunk.restarts <= restarts;
            if (!full || !in_turn) atomicMin(&first_break, number);
        }
        const Carried next = joined(mine, Carried{chunk.blocks, chunk.restarts});
        if (next.restarts == restarts) {
            if (next.blocks >= last) atomicMin(&reached, number);
            if (ends) {
                const int base = chunk.ends == 1 ? mine.blocks : 0;
                if (base + chunk.last_low <= last && base + chunk.last_high >= last) flag = 1;
            }
        }
        mine = next;
    }
    __syncthreads();
    const bool ended = end_chunk < scan.chunks && (chunks[end_chunk].found & FOUND_END) != 0;
    const bool sound = ended && flag == 1 && first_fault > end_chunk && first_break > end_chunk;

    // Otherwise the last blocks may be followed by padding, which was read as blocks and need not make sense.
    if (ended && !sound && reached <= end_chunk && first_fault >= reached && first_break > reached) {
        // The thread that found it knows what came before.
        if (!ready) make_tables(scan, tables);
        __syncthreads();
        if (begin <= reached && reached < end) {
            Carried before = thread > 0 ? carried[thread - 1] : Carried{0, 0};
            for (int number = begin; number < reached; ++number) {
                before = joined(before, Carried{chunks[number].blocks, chunks[number].restarts});
            }
            const Chunk& chunk = chunks[reached];
            stop.restarts = chunk.restarts;
            stop.wanted = last - (chunk.restarts == 0 ? before.blocks : 0);
            read_chunk<true>(data, scan, tables, reached, chunk.from, stop);
            flag = stop.from >= 0 && stop.from <= chunks[end_chunk].end_at ? 2 : 0;
        }
        __syncthreads();
        if (flag == 2) {
            bool zeros = true;
            for (int at = stop.from + thread; at < chunks[end_chunk].end_at; at += JUDGE_THREADS) {
                zeros = zeros && data[at] == 0;
            }
            if (!zeros) flag = 3;
        }
        __syncthreads();
        if (thread == 0) verdicts[blockIdx.x] = flag == 2 ? 1 : 0;
        return;
    }
    if (thread == 0) verdicts[blockIdx.x] = sound ? 1 : 0;
}
