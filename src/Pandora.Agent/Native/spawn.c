// Starts one process. No managed code runs between clone and exec: the child shares the agent's memory until it executes a program, so it
// makes system calls and nothing else. The agent's thread waits meanwhile (CLONE_VFORK).
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

// The same as in Spawner.cs.
struct spawn
{
    const char *const *programs; // paths to try, in this order
    char *const *arguments;
    char *const *environment;
    const char *directory;
    const char *other_directory; // tried when the first cannot be entered; null for none
    const uint32_t *groups;
    uint32_t group_count, user, group;
    int32_t cgroup; // descriptor of the cgroup's directory; -1 for none
    int32_t input, output, error, is_terminal;
    int32_t is_urgent; // whether the agent has a real-time priority
    uint32_t soft_files, hard_files;
    int32_t pidfd; // result
    int32_t step;  // result: what failed; 0 for nothing
};

enum { STEP_CLONE = 1, STEP_SET_UP, STEP_USER, STEP_DIRECTORY, STEP_PROGRAM };

// The kernel's struct sigaction, which is not glibc's.
struct kernel_action
{
    void *handler;
    unsigned long flags;
    void *restorer;
    uint64_t mask;
};

static __attribute__((noreturn)) void fail(struct spawn *s, int step)
{
    s->step = step;
    _exit(errno & 127);
}

// The kernel ends a process that the agent's own limits protect last of all.
static void reset_memory_killer(void)
{
    int file = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (file >= 0)
    {
        if (write(file, "0", 1) != 1)
        {
            // The guest has no such file. The process may then be killed later than others.
        }
        close(file);
    }
}

static __attribute__((noinline, noreturn)) void child(struct spawn *s)
{
    struct kernel_action reset = {0};
    for (int number = 1; number <= 64; number++)
    {
        // Ignored signals stay ignored after exec, and the agent ignores some.
        syscall(SYS_rt_sigaction, number, &reset, NULL, sizeof reset.mask);
    }

    if (setsid() < 0 || (s->is_terminal && ioctl(s->input, TIOCSCTTY, 0) < 0) || dup3(s->input, 0, 0) < 0
        || dup3(s->output, 1, 0) < 0 || dup3(s->error, 2, 0) < 0)
    {
        fail(s, STEP_SET_UP);
    }

    // All descriptors of the agent close at exec; this is for those that a library opened.
    syscall(SYS_close_range, 3u, ~0u, 4u /* CLOSE_RANGE_CLOEXEC */);
    // The agent's own limits are the same or lower, where the kernel allows no more.
    struct rlimit files = {s->soft_files, s->hard_files};
    syscall(SYS_prlimit64, 0, RLIMIT_NOFILE, &files, NULL);

    if (s->is_urgent)
    {
        // Until the program runs, others must not hold the processor: the agent waits. It is below the agent, which then makes it ordinary.
        struct sched_param below = {.sched_priority = 1};
        syscall(SYS_sched_setscheduler, 0, SCHED_FIFO, &below);
    }

    reset_memory_killer();
    umask(022);
    // By system calls: glibc's functions change all threads of the process, and this process has only one.
    if (syscall(SYS_setgroups, (long)s->group_count, s->groups) < 0 || syscall(SYS_setresgid, s->group, s->group, s->group) < 0
        || syscall(SYS_setresuid, s->user, s->user, s->user) < 0)
    {
        fail(s, STEP_USER);
    }

    if (chdir(s->directory) < 0 && (s->other_directory == NULL || chdir(s->other_directory) < 0))
    {
        fail(s, STEP_DIRECTORY);
    }

    uint64_t no_signals = 0;
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &no_signals, NULL, sizeof no_signals);
    int reason = ENOENT;
    for (int i = 0; s->programs[i] != NULL; i++)
    {
        execve(s->programs[i], s->arguments, s->environment);
        if (errno != ENOENT && errno != ENOTDIR)
        {
            reason = errno;
        }
    }

    errno = reason;
    fail(s, STEP_PROGRAM);
}

// Inline, because the child must not return from the function in which the agent's thread waits: both have the same stack.
static inline __attribute__((always_inline)) long clone3(struct clone_args *arguments)
{
#if defined(__x86_64__)
    long result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "0"((long)SYS_clone3), "D"(arguments), "S"(sizeof *arguments)
                     : "rcx", "r11", "memory");
    return result;
#elif defined(__aarch64__)
    register long number __asm__("x8") = SYS_clone3;
    register long first __asm__("x0") = (long)arguments;
    register long second __asm__("x1") = sizeof *arguments;
    __asm__ volatile("svc #0" : "+r"(first) : "r"(number), "r"(second) : "memory");
    return first;
#else
#error "Pandora's guests are x86_64 or aarch64"
#endif
}

// Returns the process's id, or the negative error number; then step says what failed.
int pandora_spawn(struct spawn *s)
{
    int pidfd = -1;
    struct clone_args arguments = {
        .flags = CLONE_VM | CLONE_VFORK | CLONE_PIDFD | CLONE_CLEAR_SIGHAND | (s->cgroup >= 0 ? CLONE_INTO_CGROUP : 0),
        .pidfd = (uint64_t)(uintptr_t)&pidfd,
        .exit_signal = SIGCHLD,
        .cgroup = s->cgroup >= 0 ? (uint64_t)s->cgroup : 0,
    };
    s->step = 0;
    long pid = clone3(&arguments);
    if (pid == 0)
    {
        child(s);
    }

    if (pid < 0)
    {
        s->step = STEP_CLONE;
        return (int)pid;
    }

    if (s->step != 0)
    {
        siginfo_t info = {0};
        waitid(P_PID, (id_t)pid, &info, WEXITED);
        close(pidfd);
        return -(info.si_status == 0 ? EIO : info.si_status);
    }

    if (s->is_urgent)
    {
        struct sched_param ordinary = {0};
        sched_setscheduler((pid_t)pid, SCHED_OTHER, &ordinary);
    }

    s->pidfd = pidfd;
    return (int)pid;
}
