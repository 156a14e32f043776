using System.Text;

namespace Pandora.Engine.Guest;

/// <summary>
/// Writes the bash text that runs one command in the guest. The code runs in the very shell that the SSH server started, because every further process costs
/// tens of milliseconds under emulation; around it stand builtins only.
/// </summary>
/// <remarks>
/// The shell joins a cgroup of its own, by which all that it starts can be killed, <c>setsid</c> or not. When it exits, its exit trap looks whether it leaves
/// anything behind in that cgroup. If not, it just exits. If so, it tells the exit code by a marker on its outputs, leaves the cgroup and stays until the rest has
/// ended: dropbear closes the outputs when the shell goes, and what stayed behind would die of SIGPIPE.
/// </remarks>
internal static class ExecScript
{
    /// <summary>Most bytes of a command string; dropbear refuses over 9,000, and far longer ones break its connection.</summary>
    public const int MaxCommandBytes = 8000;
    private const string Groups = "/sys/fs/cgroup/exec";

    /// <summary>Kills everything in an exec's cgroup.</summary>
    public static string Kill(int group) => $"echo 1 > {Groups}/{group}/cgroup.kill";

    /// <summary>Makes the next cgroups ahead of need and removes those of finished execs; those with survivors stay.</summary>
    public static string Recycle(int firstNew, int lastNew, IEnumerable<int> finished) =>
        $"cd {Groups} && {{ mkdir {{{firstNew}..{lastNew}}}; rmdir {string.Join(' ', finished)}; }} 2>/dev/null";

    /// <summary>The text for one command.</summary>
    /// <param name="command">What to run.</param>
    /// <param name="group">Number of its cgroup.</param>
    /// <param name="mark">What its markers begin with; nobody else knows it.</param>
    public static string Create(GuestCommand command, int group, string mark)
    {
        var path = $"{Groups}/{group}";
        var user = command.User is null or "root" ? null : command.User;
        var home = user is null ? "/root" : $"~{user}";
        var script = new StringBuilder();
        // One line, so that the code's own line numbers are right.
        script.Append("unset __pandora SSH_CLIENT SSH_CONNECTION SSH_PUBKEYINFO; ");
        script.Append($"{{ echo 0 > {path}/cgroup.procs; }} 2>/dev/null || {{ mkdir -p {path}; echo 0 > {path}/cgroup.procs; }} 2>/dev/null; ");
        script.Append("echo 0 > /proc/self/oom_score_adj; ");
        if (user is not null)
        {
            script.Append($"[[ {home} != '{home}' ]] || {{ {Print(mark, "1", "user")}; exit; }}; ");
        }

        script.Append($"export LANG=C.UTF-8 HOME={home} USER={user ?? "root"} LOGNAME={user ?? "root"}");
        foreach (var (name, value) in command.Env)
        {
            script.Append($" {name}={Quote(value)}");
        }

        script.Append($"; cd -- {(command.Cwd is null ? home : Quote(command.Cwd))} 2>/dev/null || {{ {Print(mark, "1", "cwd")}; exit; }}; ");
        script.Append($"trap {Quote(OnExit(path, mark))} EXIT; ");
        script.Append(user is null
            ? $"eval {Quote(command.Code)}"
            // Through a descriptor, because one argument holds no more than 128 KiB.
            : $"runuser -u {user} -- bash -c '__pandora=$(cat <&9); exec 9<&-; eval \"unset __pandora; $__pandora\"' 9<<<{Quote(command.Code)}");
        return script.ToString();
    }

    /// <summary>Reads a script that is too long for a command string from standard input, where the command's own input follows it.</summary>
    public static string ReadFromInput(int scriptBytes) => $"LC_ALL=C IFS= read -rN {scriptBytes} __pandora; eval \"$__pandora\"";

    /// <summary>Quotes for bash, without a line break: bash counts lines as it reads, and would count the code's twice.</summary>
    public static string Quote(string text) => text.Contains('\n', StringComparison.Ordinal)
        ? $"$'{text.Replace("\\", "\\\\", StringComparison.Ordinal).Replace("'", "\\'", StringComparison.Ordinal).Replace("\n", "\\n", StringComparison.Ordinal)}'"
        : $"'{text.Replace("'", "'\\''", StringComparison.Ordinal)}'";

    private static string OnExit(string path, string mark)
    {
        var wait = $"exec /usr/lib/pandora/busybox sh -c {Quote($"while read -r _ n < {path}/cgroup.events && [ \"$n\" = 1 ]; do sleep 1; done")} <&-";
        return "__pandora=$?; "
            + $"{{ mapfile -t __pandora_left < {path}/cgroup.procs; }} 2>/dev/null; "
            + "if (( ${#__pandora_left[@]} > 1 )); then "
            + "__pandora_n=0; [[ -p /dev/fd/1 ]] && (( ++__pandora_n )); [[ -p /dev/fd/2 ]] && (( ++__pandora_n )); "
            + "if (( __pandora_n )); then echo 0 > /sys/fs/cgroup/cgroup.procs; "
            + $"[[ -p /dev/fd/1 ]] && {Print(mark, "$__pandora_n", "$__pandora")}; "
            + $"[[ -p /dev/fd/2 ]] && {Print(mark, "$__pandora_n", "$__pandora")} >&2; "
            + $"{wait}; fi; fi; exit $__pandora";
    }

    private static string Print(string mark, string count, string word) => $"printf '\\000{mark} %d %s\\000' {count} {word}";
}
