/* A stand-in for libcuda.so.1: cuInit does what a sandbox could refuse the real one, and fails as that does.

   NODES: the folder of device nodes. ANSWER: what cuInit returns if all goes well. SECONDS: how long it takes then.
   The accesses and where they were seen are those of gpu_accesses.py. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { SUCCESS = 0, NOT_INITIALIZED = 3, NO_DEVICE = 100, OPERATING_SYSTEM = 304 };

static pid_t initialised_in;

static void *name_itself(void *failed)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/self/task/%ld/comm", syscall(SYS_gettid));
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (file < 0 || write(file, "cuda-EvtHandlr", 14) != 14)
        *(int *)failed = 1;
    close(file);
    return NULL;
}

static int name_a_thread(void)
{
    pthread_t thread;
    int failed = 0;
    if (pthread_create(&thread, NULL, name_itself, &failed) != 0)
        return OPERATING_SYSTEM;
    pthread_join(thread, NULL);
    return failed ? OPERATING_SYSTEM : SUCCESS;
}

static int take_memory(void)
{
    int file = memfd_create("cuda", MFD_CLOEXEC);
    if (file < 0 || ftruncate(file, 1 << 20) != 0)
        return OPERATING_SYSTEM;
    close(file);
    size_t terabyte = (size_t)1 << 40;
    void *reserved = mmap(NULL, terabyte, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (reserved == MAP_FAILED)
        return OPERATING_SYSTEM;
    munmap(reserved, terabyte);
    return SUCCESS;
}

static int open_node(const char *path)
{
    char argument[72] = {0};
    int node = open(path, O_RDWR | O_CLOEXEC);
    if (node < 0)
        return errno == ENOENT ? NO_DEVICE : OPERATING_SYSTEM;
    int refused = ioctl(node, 0xC04846C8, argument) != 0 && errno != ENOTTY;
    close(node);
    return refused ? OPERATING_SYSTEM : SUCCESS;
}

int cuInit(unsigned flags)
{
    if (initialised_in != 0)
        return initialised_in == getpid() ? SUCCESS : NOT_INITIALIZED;
    int code = name_a_thread();
    if (code == SUCCESS)
        code = take_memory();
    const char *nodes[] = {NODES "/nvidiactl", NODES "/nvidia0", NODES "/nvidia-uvm"};
    for (int index = 0; index < 3 && code == SUCCESS; index++)
        code = open_node(nodes[index]);
    if (code != SUCCESS)
        return code;
    usleep((useconds_t)(1e6 * SECONDS));
    if (ANSWER == SUCCESS)
        initialised_in = getpid();
    return ANSWER;
}

int cuDeviceGetCount(int *count)
{
    *count = 1;
    return initialised_in == getpid() ? SUCCESS : NOT_INITIALIZED;
}

int cuDriverGetVersion(int *version)
{
    *version = 13000;
    return SUCCESS;
}
