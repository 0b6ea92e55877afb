// A server whose sampler is slow: every drawn token takes half a millisecond more. The linker's --wrap leads calls of
// cpu_program_run here; the product itself knows nothing of it.
#include "base/clock.h"
#include "kernels/cpu/cpu.h"

static const uint64_t DRAW_NS = 500000;

void __real_cpu_program_run(struct cpu_program *program, const struct step_input *input,
                            const struct sample_result *before, struct step_times *times);
void __wrap_cpu_program_run(struct cpu_program *program, const struct step_input *input,
                            const struct sample_result *before, struct step_times *times);

void __wrap_cpu_program_run(struct cpu_program *program, const struct step_input *input,
                            const struct sample_result *before, struct step_times *times) {
    __real_cpu_program_run(program, input, before, times);
    const uint64_t began_ns = clock_now_ns(), wait_ns = DRAW_NS * (uint64_t)input->n_logit_rows;
    while (clock_now_ns() - began_ns < wait_ns) continue;
    times->total_ns += wait_ns;
    times->op_ns[OP_SAMPLE] += wait_ns;
}
