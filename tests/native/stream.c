/* What plain C reaches on this machine: the ruler that the NumPy and PyTorch kernels are held against.
 *
 *     cc -O3 -march=native -fopenmp -ffp-contract=fast -fno-tree-loop-distribute-patterns stream.c -o stream
 *     ./stream BYTES_PER_ARRAY THREADS [pages=huge|small|any] [offsets=A,B,C] [touch=THREADS]
 *
 * pages: the advice that the kernel gets for the arrays (NumPy asks for huge pages, so this is the default; `any`: none).
 * offsets: the bytes by which a, b and c start after a boundary of 2 MiB, multiples of 8 below 1 MiB; 0,0,0 by default.
 * touch: how many threads write the arrays first; by default those that compute.
 *
 * Reads one request a line from standard input, "KERNEL REPETITIONS", and answers with one line: the
 * amount done per repetition (bytes as STREAM counts them, or FLOPs), the largest error of the answer,
 * and the seconds of each repetition. So another process can interleave it with its own measurements.
 *
 * Kernels: copy scale add triad (plain stores, which first read the line that they overwrite),
 * triad_two (the triad in two passes, block by block),
 * copy_nt scale_nt add_nt triad_nt (non-temporal stores, which do not), fma64 fma32 (fused multiply-adds
 * on registers only: the peak of the arithmetic units). An unknown or impossible kernel answers "none", as
 * does a non-temporal one if an offset is no multiple of a cache line, 64 bytes.
 */
#include <math.h>
#include <omp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#ifdef __linux__
#include <sys/mman.h>
#endif
#if defined(__AVX512F__) || defined(__AVX__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
#define WIDE 64
#define STREAM(p, v) _mm512_stream_pd((p), (__m512d)(v))
#elif defined(__AVX__)
#define WIDE 32
#define STREAM(p, v) _mm256_stream_pd((p), (__m256d)(v))
#else
#define WIDE 16
#endif

typedef double vec64 __attribute__((vector_size(WIDE)));
typedef float vec32 __attribute__((vector_size(WIDE)));

enum { LINE = 64, HUGE_PAGE = 1 << 21, LARGEST_OFFSET = 1 << 20 };
enum { BLOCK = (1 << 20) / sizeof(double) }; /* elements of a block of `triad_two`, as of NumPy's tuned triad */
enum { CHAINS = 12, ROUNDS = 2000000, LANES = WIDE / sizeof(double) };

static const double SCALAR = 0.41421356237309503; /* sqrt(2) - 1 */
static double *a, *b, *c;
static int64_t n;
static int lined_up; /* whether every array starts at a cache line */
static volatile double sink;

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

#define EACH(statement)                                   \
    _Pragma("omp parallel for simd schedule(static)")     \
    for (int64_t i = 0; i < n; i++) { statement; }

static void copy(void) { EACH(a[i] = b[i]) }
static void scale(void) { EACH(a[i] = SCALAR * b[i]) }
static void add(void) { EACH(a[i] = b[i] + c[i]) }
static void triad(void) { EACH(a[i] = b[i] + SCALAR * c[i]) }

/* The triad as a library without a fused call must do it: two passes over blocks that stay in a cache. */
static void triad_two(void) {
    _Pragma("omp parallel for schedule(static)")
    for (int64_t start = 0; start < n; start += BLOCK) {
        const int64_t stop = start + BLOCK < n ? start + BLOCK : n;
        _Pragma("omp simd")
        for (int64_t i = start; i < stop; i++) a[i] = SCALAR * c[i];
        _Pragma("omp simd")
        for (int64_t i = start; i < stop; i++) a[i] = a[i] + b[i];
    }
}

#ifdef STREAM
#define EACH_STREAMED(expression)                         \
    _Pragma("omp parallel for schedule(static)")          \
    for (int64_t i = 0; i < n; i += LANES) {              \
        const vec64 x = *(const vec64 *)(b + i);          \
        const vec64 y = *(const vec64 *)(c + i);          \
        (void)y;                                          \
        STREAM(a + i, expression);                        \
    }                                                     \
    _mm_sfence();

static void copy_nt(void) { EACH_STREAMED(x) }
static void scale_nt(void) { EACH_STREAMED(SCALAR * x) }
static void add_nt(void) { EACH_STREAMED(x + y) }
static void triad_nt(void) { EACH_STREAMED(x + SCALAR * y) }
#endif

#define FMA_LOOP(name, vec, scalar)                                                   \
    static void name(void) {                                                          \
        const volatile scalar factor = (scalar)0.999, term = (scalar)1e-3;            \
        _Pragma("omp parallel") {                                                     \
            vec chain[CHAINS], x = {0}, y = {0};                                      \
            x += factor, y += term;                                                   \
            for (int k = 0; k < CHAINS; k++) chain[k] = y * (scalar)k;                \
            for (int r = 0; r < ROUNDS; r++) {                                        \
                _Pragma("GCC unroll 12")                                              \
                for (int k = 0; k < CHAINS; k++) chain[k] = chain[k] * x + y;         \
            }                                                                         \
            scalar total = 0;                                                         \
            for (int k = 0; k < CHAINS; k++) total += chain[k][0];                    \
            _Pragma("omp critical") sink = (double)total;                             \
        }                                                                             \
    }
FMA_LOOP(fma64, vec64, double)
FMA_LOOP(fma32, vec32, float)

/* Coefficients of b and c in the answer, and arrays moved; or lanes of a register, for the FMA loops. */
static const struct kernel {
    const char *name;
    void (*run)(void);
    double of_b, of_c;
    int arrays, lanes;
} KERNELS[] = {
    {"copy", copy, 1, 0, 2, 0},
    {"scale", scale, SCALAR, 0, 2, 0},
    {"add", add, 1, 1, 3, 0},
    {"triad", triad, 1, SCALAR, 3, 0},
    {"triad_two", triad_two, 1, SCALAR, 3, 0},
#ifdef STREAM
    {"copy_nt", copy_nt, 1, 0, 2, 0},
    {"scale_nt", scale_nt, SCALAR, 0, 2, 0},
    {"add_nt", add_nt, 1, 1, 3, 0},
    {"triad_nt", triad_nt, 1, SCALAR, 3, 0},
#endif
    {"fma64", fma64, 0, 0, 0, WIDE / sizeof(double)},
    {"fma32", fma32, 0, 0, 0, WIDE / sizeof(float)},
};

static double largest_error(const struct kernel *kernel) {
    double worst = 0;
    if (kernel->lanes) return fabs(sink - CHAINS) / CHAINS; /* the fixed point of x = 0.999 x + 0.001 is 1 */
    for (int64_t i = 0; i < n; i++) worst = fmax(worst, fabs(a[i] - (kernel->of_b * b[i] + kernel->of_c * c[i])));
    return worst;
}

static void serve(const struct kernel *kernel, int repetitions) {
    const double amount = kernel->lanes ? 2.0 * kernel->lanes * CHAINS * ROUNDS * omp_get_max_threads()
                                        : (double)kernel->arrays * (double)n * sizeof(double);
    double *times = malloc(sizeof(double) * (size_t)repetitions);
    for (int r = 0; r < repetitions; r++) {
        const double start = seconds();
        kernel->run();
        times[r] = seconds() - start;
    }
    printf("%.17g %.17g", amount, largest_error(kernel));
    for (int r = 0; r < repetitions; r++) printf(" %.9f", times[r]);
    printf("\n");
    free(times);
}

/* Return memory for an array, `offset` bytes after a boundary of 2 MiB; NULL if there is none. It is never freed. */
static double *array(size_t bytes, long offset, const char *pages) {
    const size_t whole = (bytes + (size_t)offset + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
    char *memory = aligned_alloc(HUGE_PAGE, whole);
    if (!memory) return NULL;
#ifdef __linux__
    if (!strcmp(pages, "huge")) madvise(memory, whole, MADV_HUGEPAGE); /* advice: without it the times still count */
    if (!strcmp(pages, "small")) madvise(memory, whole, MADV_NOHUGEPAGE);
#else
    (void)pages;
#endif
    return (double *)(void *)(memory + offset);
}

static int is_offset(long offset) { return offset >= 0 && offset < LARGEST_OFFSET && offset % 8 == 0; }

int main(int argc, char **argv) {
    char pages[8] = "huge";
    long from[3] = {0, 0, 0};
    int right = argc >= 3 && atoll(argv[1]) >= LINE && atoi(argv[2]) >= 1;
    int touch = right ? atoi(argv[2]) : 0;
    for (int i = 3; i < argc && right; i++) {
        right = sscanf(argv[i], "offsets=%ld,%ld,%ld", &from[0], &from[1], &from[2]) == 3
                    ? is_offset(from[0]) && is_offset(from[1]) && is_offset(from[2])
                : sscanf(argv[i], "pages=%7s", pages) == 1
                    ? !strcmp(pages, "huge") || !strcmp(pages, "small") || !strcmp(pages, "any")
                    : sscanf(argv[i], "touch=%d", &touch) == 1 && touch >= 1;
    }
    if (!right) {
        fprintf(stderr, "usage: %s BYTES_PER_ARRAY THREADS [pages=huge|small|any] [offsets=A,B,C] [touch=THREADS]\n",
                argv[0]);
        return 2;
    }
    n = atoll(argv[1]) / LINE * LINE / (int64_t)sizeof(double);
    const size_t bytes = (size_t)n * sizeof(double);
    a = array(bytes, from[0], pages), b = array(bytes, from[1], pages), c = array(bytes, from[2], pages);
    if (!a || !b || !c) {
        fprintf(stderr, "no memory for 3 arrays of %zu bytes\n", bytes);
        return 1;
    }
    lined_up = (from[0] | from[1] | from[2]) % LINE == 0;
    omp_set_num_threads(touch);
    EACH(a[i] = 0; b[i] = (double)(i % 1021) / 1021; c[i] = (double)(i % 1019) / 1019)
    omp_set_num_threads(atoi(argv[2]));

    char name[32];
    int repetitions;
    while (scanf("%31s %d", name, &repetitions) == 2) {
        const struct kernel *found = NULL;
        for (size_t k = 0; k < sizeof KERNELS / sizeof *KERNELS; k++)
            if (!strcmp(name, KERNELS[k].name)) found = &KERNELS[k];
        if (!found || repetitions < 1 || (strstr(name, "_nt") && !lined_up)) printf("none\n");
        else serve(found, repetitions);
        fflush(stdout);
    }
    return 0;
}
