// Photon correlation on a GPU. One thread follows one pixel through the frames of a block, or through its events, level
// by level as the processors do: the arrays are those of dense.py and sparse.py with the pixels last, so that neighbouring
// threads read neighbouring values. COUNT, the type of the frames, is given to the compiler.

#define HISTORY 8   // values of a level that are kept, for the longest distance
#define SHORT 32    // products that are summed in single precision, before the sum goes to one in double precision
#define STRETCH 16  // pixels that one thread sums up
#define FRAMES 32   // frames over which one block of threads sums up

typedef long long Index;

#ifndef ON_PROCESSORS
// The sum over a warp, in its first lane. All lanes have to come here.
__device__ double warp_sum(double value) {
    for (int away = warpSize / 2; away > 0; away /= 2) value += __shfl_down_sync(0xffffffffu, value, away);
    return value;
}
__device__ bool first_lane() { return threadIdx.x % warpSize == 0; }
#endif

__device__ Index thread() { return (Index)blockIdx.x * blockDim.x + threadIdx.x; }

// Where a lag is: those of 1 to 8 of level 0, then 5 to 8 of each level.
__device__ int place_of(int level, int distance) { return level == 0 ? distance - 1 : 4 * level + distance - 1; }

// ----- how bright frames and pixels are ------------------------------------------------------------------------------

// frames (count, pixels); wanted (pixels,): 1 or 0; total (pixels,) and sums (count,) are added to.
extern "C" __global__ void survey(const COUNT *frames, int count, Index pixels, const unsigned char *wanted,
                                  double *total, double *sums) {
    const Index first = (Index)blockIdx.x * blockDim.x * STRETCH + threadIdx.x;
    const int begin = blockIdx.y * FRAMES, end = count < begin + FRAMES ? count : begin + FRAMES;
    double own[STRETCH];
    for (int k = 0; k < STRETCH; ++k) own[k] = 0.0;
    for (int t = begin; t < end; ++t) {
        double part = 0.0;
        for (int k = 0; k < STRETCH; ++k) {
            const Index p = first + (Index)k * blockDim.x;
            if (p >= pixels) continue;
            const double value = (double)frames[t * pixels + p];
            own[k] += value;
            part += value * wanted[p];  // what is not finite is seen wherever it is
        }
        part = warp_sum(part);
        if (first_lane()) atomicAdd(&sums[t], part);
    }
    for (int k = 0; k < STRETCH; ++k) {
        const Index p = first + (Index)k * blockDim.x;
        if (p < pixels) atomicAdd(&total[p], own[k]);
    }
}

// ----- whole frames --------------------------------------------------------------------------------------------------

struct Series {
    Index held;     // pixels that are followed
    float *last;    // (levels, HISTORY, held)
    float *carry;   // (levels, held)
    double *total;  // (held,)
    float *head;    // (places, held)
    double *g2;     // (places, held)
    float *spare;   // (count / 2 + 1, held)
    int segment_level;
    Index segments;
    float *segment;  // (segments, held)
};

struct FromFrames {  // sums of `average` frames, times their scale
    const COUNT *first;
    Index row;
    int average;
    const float *scale;
    __device__ float operator()(int t) const {
        float sum = 0.0f;
        for (int step = 0; step < average; ++step) sum += (float)first[((Index)t * average + step) * row];
        return sum * scale[t];
    }
};

struct FromSpare {
    const float *first;
    Index row;
    __device__ float operator()(int t) const { return first[(Index)t * row]; }
};

// One level of one pixel takes `left` values, of which `before` have been; the next level's are left in `spare`, which
// this level's may come from: none is written before it was read. How many there are.
template <class Source>
__device__ int follow(const Series &s, Index i, int level, int left, Index before, const Source &value) {
    float history[HISTORY], part[HISTORY];  // the latest value first
    double both[HISTORY], whole = 0.0;
    for (int k = 0; k < HISTORY; ++k) {
        history[k] = s.last[((Index)level * HISTORY + HISTORY - 1 - k) * s.held + i];
        part[k] = 0.0f;
        both[k] = 0.0;
    }
    const int odd = (int)(before & 1), nearest = level == 0 ? 1 : 5;
    float pending = s.carry[(Index)level * s.held + i], whole_part = 0.0f;
    int made = 0;
    for (int t = 0; t < left; ++t) {
        const float now = value(t);
#pragma unroll
        for (int k = 0; k < HISTORY; ++k) part[k] += now * history[k];
#pragma unroll
        for (int k = HISTORY - 1; k > 0; --k) history[k] = history[k - 1];
        history[0] = now;
        whole_part += now;
        if (before + t < HISTORY)
            for (int far = nearest > before + t + 1 ? nearest : (int)(before + t + 1); far <= HISTORY; ++far)
                s.head[place_of(level, far) * s.held + i] += now;
        if (level == s.segment_level && before + t < s.segments) s.segment[(before + t) * s.held + i] = now;
        if ((t + odd) % 2 == 1)
            s.spare[(Index)made++ * s.held + i] = pending + now;
        else
            pending = now;
        if ((t + 1) % SHORT == 0 || t + 1 == left) {
            for (int k = 0; k < HISTORY; ++k) {
                both[k] += part[k];
                part[k] = 0.0f;
            }
            whole += whole_part;
            whole_part = 0.0f;
        }
    }
    for (int far = nearest; far <= HISTORY; ++far) s.g2[place_of(level, far) * s.held + i] += both[far - 1];
    for (int k = 0; k < HISTORY; ++k) s.last[((Index)level * HISTORY + HISTORY - 1 - k) * s.held + i] = history[k];
    s.carry[(Index)level * s.held + i] = pending;
    if (level == 0) s.total[i] += whole;
    return made;
}

// frames (count * average, row); pixel (held,): which are followed; scale (count,); `seen` frames have been.
extern "C" __global__ void add_frames(const COUNT *frames, Index row, int average, int count, Index seen,
                                      const Index *pixel, Index held, const float *scale, int levels, float *last,
                                      float *carry, double *total, float *head, double *g2, float *spare,
                                      int segment_level, Index segments, float *segment) {
    const Index i = thread();
    if (i >= held) return;
    const Series s = {held, last, carry, total, head, g2, spare, segment_level, segments, segment};
    int left = follow(s, i, 0, count, seen, FromFrames{frames + pixel[i], row, average, scale});
    for (int level = 1; level < levels && left > 0; ++level)
        left = follow(s, i, level, left, seen >> level, FromSpare{spare + i, held});
}

// found (3, held): G2, IP and IF at one lag, of `frames` frames. IP and IF are the mean of the level without its last, or
// first, few values.
extern "C" __global__ void lag_values(Index held, Index frames, int level, int distance, const float *last,
                                      const float *carry, const double *total, const float *head, const double *g2,
                                      double *found) {
    const Index i = thread();
    if (i >= held) return;
    const int where = place_of(level, distance);
    const double width = (double)((Index)1 << level), terms = (double)((frames >> level) - distance);
    double whole = total[i], tail = 0.0;
    for (int below = 0; below < level; ++below)
        if ((frames >> below) & 1) whole -= carry[(Index)below * held + i];  // it found no pair
    for (int k = HISTORY - distance; k < HISTORY; ++k) tail += last[((Index)level * HISTORY + k) * held + i];
    found[i] = g2[where * held + i] / (terms * width * width);
    found[held + i] = (whole - tail) / (terms * width);
    found[2 * held + i] = (whole - head[where * held + i]) / (terms * width);
}

// ----- events --------------------------------------------------------------------------------------------------------

// The events of one pixel, those of one (averaged) frame as one; how many.
__device__ int load(const unsigned *times, const unsigned short *counts, Index low, Index high, const float *scale,
                    int *time, float *value) {
    int left = 0;
    for (Index e = low; e < high; ++e) {
        const int t = (int)times[e];
        const float now = counts[e] * scale[t];
        if (left > 0 && time[left - 1] == t) {
            value[left - 1] += now;
        } else {
            time[left] = t;
            value[left++] = now;
        }
    }
    return left;
}

// Join pairs of frames; how many events there are then.
__device__ int halve(int *time, float *value, int left) {
    int made = 0;
    for (int e = 0; e < left; ++e) {
        const int t = time[e] >> 1;
        if (made > 0 && time[made - 1] == t) {
            value[made - 1] += value[e];
        } else {
            time[made] = t;
            value[made++] = value[e];
        }
    }
    return made;
}

// Of one level of one pixel: its sum; of its first and last 1 to 8 frames the sums; products at distances 1 to 8, of each
// event with those that follow soon.
__device__ double look(const int *time, const float *value, int left, Index size, double *head, double *tail,
                       double *both) {
    double whole = 0.0;
    for (int far = 0; far <= HISTORY; ++far) head[far] = tail[far] = both[far] = 0.0;
    for (int e = 0; e < left; ++e) {
        const int now = time[e];
        const double here = value[e];
        whole += here;
        for (int far = now + 1; far <= HISTORY; ++far) head[far] += here;
        for (int far = (int)(size - now); far <= HISTORY; ++far) tail[far] += here;
        for (int later = e + 1; later < left && time[later] - now <= HISTORY; ++later)
            both[time[later] - now] += here * value[later];
    }
    return whole;
}

// One block of threads to a unit, whose pixels are first[start[unit]] and on. Every lane goes through all lags, whether
// its pixel has events or not: their sums are made over warps.
//
// level, distance (lags,); time, value: room for all events; sums (units, lags, 6): of G2, IP, IF, g2 - 1, (g2 - 1)^2, and
// how many pixels saw a pair; segments (units, frames >> segment_level); pixels (lags, 3, every), or every = 0.
extern "C" __global__ void correlate_events(const Index *first, const unsigned *times, const unsigned short *counts,
                                            const float *scale, const Index *start, const int *level,
                                            const int *distance, int lags, Index frames, int segment_level, int *time,
                                            float *value, double *sums, double *segments, float *pixels, Index every) {
    const Index unit = blockIdx.x, low = start[unit], high = start[unit + 1];
    double head[HISTORY + 1], tail[HISTORY + 1], both[HISTORY + 1];
    for (Index round = low; round < high; round += blockDim.x) {
        const Index p = round + threadIdx.x;
        const bool mine = p < high;
        int *const own_time = mine ? time + first[p] : time;
        float *const own_value = mine ? value + first[p] : value;
        int left = mine ? load(times, counts, first[p], first[p + 1], scale, own_time, own_value) : 0;
        int lag = 0;
        for (int at = 0; lag < lags || at <= segment_level; ++at) {
            const Index size = frames >> at;
            while (left > 0 && own_time[left - 1] >= size) --left;  // it found no pair
            if (at == segment_level)
                for (int e = 0; e < left; ++e)
                    atomicAdd(&segments[unit * size + own_time[e]], (double)own_value[e]);
            const double whole = look(own_time, own_value, left, size, head, tail, both);
            for (; lag < lags && level[lag] == at; ++lag) {
                const int far = distance[lag];
                const double width = (double)((Index)1 << at), terms = (double)(size - far) * width;
                double here[6] = {both[far] / (terms * width), (whole - tail[far]) / terms, (whole - head[far]) / terms};
                if (here[0] != 0.0) {
                    here[3] = here[0] / (here[1] * here[2]) - 1.0;
                    here[4] = here[3] * here[3];
                    here[5] = 1.0;
                }
                if (mine && every > 0)
                    for (int k = 0; k < 3; ++k) pixels[((Index)lag * 3 + k) * every + p] = (float)here[k];
                for (int k = 0; k < 6; ++k) {
                    const double sum = warp_sum(here[k]);
                    if (first_lane()) atomicAdd(&sums[(unit * lags + lag) * 6 + k], sum);
                }
            }
            left = halve(own_time, own_value, left);
        }
    }
}
