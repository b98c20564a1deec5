/* The least that a fan-out must do, in C: protect every packet of a frame for every viewer, in place, and send
 * the frame to each with one sendmsg (UDP_SEGMENT); at its own time, one sendto a viewer for each packet of
 * sound. No ICE, no reports, no ring, no Python: what is left over is libsrtp and the kernel. Called by
 * bench/rows/_limit.py, which hands it libsrtp's own function and contexts, so that both sides use one build.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <stdint.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif

typedef int (*protect_fn)(void *context, void *packet, int *length);

static double seconds_of(struct timeval it) { return it.tv_sec + it.tv_usec / 1e6; }

static uint16_t sequence;

static void write_header(unsigned char *packet, int kind, int marker, uint32_t timestamp, uint32_t ssrc) {
    packet[0] = 0x80;
    packet[1] = kind | (marker ? 0x80 : 0);
    packet[2] = sequence >> 8;
    packet[3] = sequence & 255;
    sequence++;
    for (int byte = 0; byte < 4; byte++) {
        packet[4 + byte] = timestamp >> (24 - 8 * byte);
        packet[8 + byte] = ssrc >> (24 - 8 * byte);
    }
}

static double cpu_now(void) {
    struct rusage usage;
    getrusage(RUSAGE_THREAD, &usage);
    return seconds_of(usage.ru_utime) + seconds_of(usage.ru_stime);
}

static void sleep_until(struct timespec start, double seconds) {
    long whole = (long)seconds;
    start.tv_sec += whole;
    start.tv_nsec += (long)(1e9 * (seconds - whole));
    if (start.tv_nsec >= 1000000000) {
        start.tv_nsec -= 1000000000;
        start.tv_sec++;
    }
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &start, NULL);
}

/* Sends for `seconds`, to every viewer, `fps` frames a second of `packets` packets of `size` bytes (without `tag`)
 * and `sound_rate` packets of `sound_size` a second, each at its own time as they come from a publisher. Returns
 * the CPU seconds of this thread, or -1 when libsrtp refuses; `sent` gets the number of packets the kernel took.
 */
double fanout_limit(protect_fn protect, void **contexts, const struct sockaddr_in *addresses, int viewers, int sock,
                    int packets, int size, int tag, int sound_size, double sound_rate, double fps, double seconds,
                    long *sent) {
    static unsigned char frame[65536], work[65536];
    static uint32_t timestamp;
    char control[CMSG_SPACE(sizeof(uint16_t))] = {0};
    struct timespec start;
    int each = size + tag;
    double began = cpu_now(), frame_due = 0, sound_due = 0.5 / sound_rate;

    *sent = 0;
    clock_gettime(CLOCK_MONOTONIC, &start);
    while (frame_due < seconds || sound_due < seconds) {
        int sound = sound_due < frame_due;
        sleep_until(start, sound ? sound_due : frame_due);
        if (sound) {
            write_header(frame, 111, 0, timestamp, 1);
            for (int viewer = 0; viewer < viewers; viewer++) {
                int length = sound_size;
                memcpy(work, frame, sound_size);
                if (protect(contexts[viewer], work, &length) != 0) return -1;
                const struct sockaddr *to = (const struct sockaddr *)&addresses[viewer];
                if (sendto(sock, work, length, 0, to, sizeof addresses[viewer]) > 0) *sent += 1;
            }
            sound_due += 1 / sound_rate;
            continue;
        }
        timestamp += 3000;
        for (int index = 0; index < packets; index++)
            write_header(frame + index * each, 96, index == packets - 1, timestamp, 1);
        for (int viewer = 0; viewer < viewers; viewer++) {
            memcpy(work, frame, packets * each);
            for (int index = 0; index < packets; index++) {
                int length = size;
                if (protect(contexts[viewer], work + index * each, &length) != 0) return -1;
            }
            struct iovec data = {work, packets * each};
            struct msghdr message = {
                .msg_name = (void *)&addresses[viewer], .msg_namelen = sizeof addresses[viewer],
                .msg_iov = &data, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
            struct cmsghdr *header = CMSG_FIRSTHDR(&message);
            header->cmsg_level = IPPROTO_UDP;
            header->cmsg_type = UDP_SEGMENT;
            header->cmsg_len = CMSG_LEN(sizeof(uint16_t));
            *(uint16_t *)CMSG_DATA(header) = each;
            if (sendmsg(sock, &message, 0) > 0) *sent += packets;
        }
        frame_due += 1 / fps;
    }
    return cpu_now() - began;
}
