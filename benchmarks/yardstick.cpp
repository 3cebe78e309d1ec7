// Yardstick of the `cells` kernel: exact birth and death in continuous time on one flat array.
//
//     yardstick CELLS P_EVENT STEPS REPEATS SEED
//
// A cell of genotype g divides at birth[g] and dies at death[g] per day. By uniformization the time to
// the next candidate event is Exp(1) / (n Lambda) with Lambda >= birth[g] + death[g]; a uniformly
// chosen cell then dies with probability death[g] / Lambda, divides with birth[g] / Lambda, else
// nothing happens. Death copies the last cell into the hole, birth appends. A step is one day.
//
// Prints one line per repeat: CPU ns and wall ns per cell and step, births, deaths, cells at the end.
// The last line is `copy NS`: median CPU ns per cell of copying 8 bytes per cell.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <vector>

namespace {

constexpr int num_genotypes = 16;

// xoshiro256++ (Blackman & Vigna 2021, doi:10.1145/3460772), seeded by splitmix64.
struct Random {
    uint64_t s[4];

    explicit Random(uint64_t seed) {
        for (auto& word : s) {
            uint64_t z = (seed += 0x9e3779b97f4a7c15);
            z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
            z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
            word = z ^ (z >> 31);
        }
    }

    static uint64_t rotate(uint64_t x, int k) { return (x << k) | (x >> (64 - k)); }

    uint64_t word() {
        const uint64_t result = rotate(s[0] + s[3], 23) + s[0];
        const uint64_t t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = rotate(s[3], 45);
        return result;
    }

    double uniform() { return static_cast<double>((word() >> 11) + 1) * 0x1p-53; }  // (0, 1]

    uint64_t below(uint64_t bound) {
        return static_cast<uint64_t>((static_cast<unsigned __int128>(word()) * bound) >> 64);
    }
};

struct Rates {
    double birth[num_genotypes];
    double death[num_genotypes];
    double bound;  // Lambda
};

struct Population {
    std::vector<uint32_t> genotype;
    uint64_t num_cells;
    uint64_t births = 0;
    uint64_t deaths = 0;

    Population(uint64_t cells, Random& random) : genotype(2 * cells + 1000), num_cells(cells) {
        for (uint64_t i = 0; i < cells; ++i) genotype[i] = random.below(num_genotypes);
    }

    void live(double days, const Rates& rates, Random& random) {
        uint32_t* cells = genotype.data();
        uint64_t n = num_cells;
        while (n > 0) {
            days += std::log(random.uniform()) / (static_cast<double>(n) * rates.bound);
            if (days < 0) break;
            const uint64_t i = random.below(n);
            const uint32_t g = cells[i];
            const double u = random.uniform() * rates.bound;
            if (u <= rates.death[g]) {
                cells[i] = cells[--n];
                ++deaths;
            } else if (u <= rates.death[g] + rates.birth[g]) {
                if (n == genotype.size()) {
                    std::fprintf(stderr, "the population outgrew its room of %zu cells\n", genotype.size());
                    std::exit(3);
                }
                cells[n++] = g;
                ++births;
            }
        }
        num_cells = n;
    }
};

double nanoseconds(clockid_t clock) {
    timespec t;
    clock_gettime(clock, &t);
    return 1e9 * static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec);
}

double copy_ns(uint64_t cells, int repeats) {
    std::vector<uint64_t> from(cells, 1), to(cells, 0);
    std::vector<double> ns;
    const uint64_t rounds = 1 + 50'000'000 / cells;
    for (int r = 0; r < repeats; ++r) {
        const double start = nanoseconds(CLOCK_PROCESS_CPUTIME_ID);
        for (uint64_t k = 0; k < rounds; ++k) {
            from[0] = k;
            std::memcpy(to.data(), from.data(), 8 * cells);
            asm volatile("" : : "r"(to.data()) : "memory");
        }
        ns.push_back((nanoseconds(CLOCK_PROCESS_CPUTIME_ID) - start) / static_cast<double>(rounds * cells));
    }
    std::nth_element(ns.begin(), ns.begin() + repeats / 2, ns.end());
    return ns[repeats / 2];
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 6) {
        std::fprintf(stderr, "usage: yardstick CELLS P_EVENT STEPS REPEATS SEED\n");
        return 2;
    }
    const uint64_t cells = std::strtoull(argv[1], nullptr, 10);
    const double p_event = std::strtod(argv[2], nullptr);
    const int steps = std::atoi(argv[3]), repeats = std::atoi(argv[4]);
    Random random(std::strtoull(argv[5], nullptr, 10));
    Rates rates;
    for (int g = 0; g < num_genotypes; ++g) rates.birth[g] = rates.death[g] = p_event / 2;
    rates.bound = p_event;
    for (int r = 0; r < repeats; ++r) {
        Population population(cells, random);
        const double cpu = nanoseconds(CLOCK_PROCESS_CPUTIME_ID), wall = nanoseconds(CLOCK_MONOTONIC);
        for (int k = 0; k < steps; ++k) population.live(1.0, rates, random);
        const double work = static_cast<double>(cells) * steps;
        std::printf("%.6f %.6f %llu %llu %llu\n", (nanoseconds(CLOCK_PROCESS_CPUTIME_ID) - cpu) / work,
                    (nanoseconds(CLOCK_MONOTONIC) - wall) / work,
                    static_cast<unsigned long long>(population.births),
                    static_cast<unsigned long long>(population.deaths),
                    static_cast<unsigned long long>(population.num_cells));
    }
    std::printf("copy %.6f\n", copy_ns(cells, repeats));
}
