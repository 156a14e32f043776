// The least that a program in a guest can do for a command: for each byte that comes over the port of the agent's streams it forks, executes
// bash -c true, waits, and sends the byte back.
#define _GNU_SOURCE
#include <fcntl.h>
#include <glob.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static int open_port(void)
{
    glob_t ports;
    glob("/sys/class/virtio-ports/*/name", 0, NULL, &ports);
    for (size_t i = 0; i < ports.gl_pathc; i++)
    {
        char name[64] = "", path[64] = "";
        FILE *file = fopen(ports.gl_pathv[i], "r");
        if (file != NULL && fgets(name, sizeof name, file) != NULL && strcmp(name, "pandora.streams\n") == 0)
        {
            sscanf(ports.gl_pathv[i], "/sys/class/virtio-ports/%40[^/]", name);
            snprintf(path, sizeof path, "/dev/%.40s", name);
            return open(path, O_RDWR);
        }
    }

    return -1;
}

int main(void)
{
    int port = open_port();
    char byte;
    while (read(port, &byte, 1) == 1)
    {
        char *arguments[] = {"bash", "-c", "true", NULL};
        pid_t pid;
        if (posix_spawn(&pid, "/bin/bash-static", NULL, NULL, arguments, environ) != 0 || waitpid(pid, NULL, 0) < 0
            || write(port, &byte, 1) != 1)
        {
            return 1;
        }
    }

    return 0;
}
