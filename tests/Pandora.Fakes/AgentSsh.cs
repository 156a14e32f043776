using System.ComponentModel;
using System.Runtime.InteropServices;
using System.Text;

namespace Pandora.Fakes;

/// <summary>Starts programs for the agent's code in this process, whose own way to start them needs C code.</summary>
internal static unsafe partial class AgentSsh
{
    private const long OpenPidfd = 434; // pidfd_open

    /// <summary>Starts a program with one socket as its input and its output.</summary>
    /// <returns>A descriptor of the process.</returns>
    public static int Start(IReadOnlyList<string> arguments, int socket)
    {
        // posix_spawn_file_actions_t has 80 bytes in glibc.
        var actions = stackalloc byte[256];
        var texts = arguments.Append("PATH=/usr/sbin:/usr/bin:/sbin:/bin").Select(Text).ToArray();
        var argv = stackalloc nint[arguments.Count + 1];
        var environment = stackalloc nint[2] { texts[^1], 0 };
        for (var i = 0; i < arguments.Count; i++)
        {
            argv[i] = texts[i];
        }

        argv[arguments.Count] = 0;
        var nothing = Text("/dev/null");
        int pid;
        int[] errors =
        [
            posix_spawn_file_actions_init(actions),
            posix_spawn_file_actions_adddup2(actions, socket, 0),
            posix_spawn_file_actions_adddup2(actions, socket, 1),
            posix_spawn_file_actions_addopen(actions, 2, (byte*)nothing, 1, 0),
            posix_spawn(&pid, (byte*)argv[0], actions, null, argv, environment),
            posix_spawn_file_actions_destroy(actions),
        ];
        var error = errors.FirstOrDefault(e => e != 0);
        foreach (var text in texts.Append(nothing))
        {
            NativeMemory.Free((void*)text);
        }

        return error == 0 ? (int)syscall(OpenPidfd, pid, 0) : throw new IOException(new Win32Exception(error).Message);
    }

    private static nint Text(string text)
    {
        var bytes = Encoding.UTF8.GetBytes(text + "\0");
        var block = NativeMemory.Alloc((nuint)bytes.Length);
        bytes.CopyTo(new Span<byte>(block, bytes.Length));
        return (nint)block;
    }

    [LibraryImport("libc")]
    private static partial int posix_spawn_file_actions_init(void* actions);

    [LibraryImport("libc")]
    private static partial int posix_spawn_file_actions_destroy(void* actions);

    [LibraryImport("libc")]
    private static partial int posix_spawn_file_actions_adddup2(void* actions, int from, int to);

    [LibraryImport("libc")]
    private static partial int posix_spawn_file_actions_addopen(void* actions, int descriptor, byte* path, int flags, uint mode);

    [LibraryImport("libc")]
    private static partial int posix_spawn(int* pid, byte* path, void* actions, void* attributes, nint* arguments, nint* environment);

    [LibraryImport("libc", SetLastError = true)]
    private static partial nint syscall(long number, long first, long second);
}
