/* The shell of the stand-in for nvidia-cuda-mps-control, in a tenth of the time that a start of
 * Python takes: a keeper runs it a dozen times a second. It does what `shell` in
 * simulator/mps/control.py does. With options, or without a daemon, it executes that program, which
 * is in ../mps-standin. */

#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define PROGRAM "/mps-standin/nvidia-cuda-mps-control"

static char answer[1 << 20];

static void instead(char **argv)
{
    char path[4096];
    ssize_t length = readlink("/proc/self/exe", path, sizeof path - sizeof PROGRAM);
    if (length < 0)
        exit(120);
    path[length] = '\0';
    for (int levels = 0; levels < 2; levels++)
        *strrchr(path, '/') = '\0';
    strcat(path, PROGRAM);
    execv(path, argv);
    exit(121);
}

int main(int argc, char **argv)
{
    const char *pipe = getenv("CUDA_MPS_PIPE_DIRECTORY");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int length = snprintf(address.sun_path, sizeof address.sun_path, "%s/control",
                          pipe ? pipe : "/tmp/nvidia-mps");
    int end = socket(AF_UNIX, SOCK_SEQPACKET, 0);
    if (argc > 1 || length >= (int)sizeof address.sun_path ||
        connect(end, (struct sockaddr *)&address, sizeof address) < 0)
        instead(argv);
    send(end, "shell", 5, MSG_NOSIGNAL);
    char *line = NULL;
    size_t size = 0;
    ssize_t got;
    while ((got = getline(&line, &size, stdin)) > 0) {
        if (send(end, line, got, MSG_NOSIGNAL) < 0)
            return 1;
        ssize_t said = recv(end, answer, sizeof answer, 0);
        if (said <= 0)
            return 1; /* the daemon has ended */
        fwrite(answer + 1, 1, said - 1, stdout);
        fflush(stdout);
        if (answer[0] != '0')
            return answer[0] - '0';
    }
    return 0;
}
