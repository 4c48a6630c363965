// Makes every thread that was waiting wake up late, as on a virtual machine whose hypervisor takes its time: preloaded by
// folder_flow.py, which says by how much in SLOW_WAKEUP_US. Python's own lock waits for a condition, its others for
// semaphores.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <time.h>

static void late(void)
{
    static long us = -1;
    if (us < 0) us = atol(getenv("SLOW_WAKEUP_US"));
    const struct timespec wait = {0, us * 1000};
    nanosleep(&wait, NULL);
}
#define REAL(name, result, ...) \
    static result (*real)(__VA_ARGS__); \
    if (!real) real = (result (*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

int pthread_cond_timedwait(pthread_cond_t* condition, pthread_mutex_t* mutex, const struct timespec* until)
{
    static int (*real)(pthread_cond_t*, pthread_mutex_t*, const struct timespec*);
    if (!real) real = dlvsym(RTLD_NEXT, "pthread_cond_timedwait", "GLIBC_2.3.2");
    const int status = real(condition, mutex, until);
    pthread_mutex_unlock(mutex);
    late();
    pthread_mutex_lock(mutex);
    return status;
}
int sem_wait(sem_t* semaphore)
{
    if (sem_trywait(semaphore) == 0) return 0;
    REAL("sem_wait", int, sem_t*);
    const int status = real(semaphore);
    late();
    return status;
}
int sem_clockwait(sem_t* semaphore, clockid_t clock, const struct timespec* until)
{
    if (sem_trywait(semaphore) == 0) return 0;
    REAL("sem_clockwait", int, sem_t*, clockid_t, const struct timespec*);
    const int status = real(semaphore, clock, until);
    late();
    return status;
}
