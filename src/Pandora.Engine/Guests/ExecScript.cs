using System.Text;
using System.Text.RegularExpressions;

namespace Pandora.Engine.Guests;

/// <summary>
/// Writes the bash text that runs one command in the guest. The code runs in the shell that the SSH server started, because each
/// additional process costs tens of milliseconds under emulation. The text around the code uses builtins only.
/// </summary>
/// <remarks>
/// Each shell joins a separate cgroup. Through that cgroup every process that the shell starts can be killed, <c>setsid</c> or not, unless
/// root moves the process out. When the shell exits, its exit trap writes a marker on both outputs: the exit code, and whether other
/// processes remain in the cgroup. Then the shell waits for a line of input before it ends. So the server knows that a command has ended
/// even if a process that it started holds the outputs open. The server also decides when the shell ends: not while another channel is
/// being opened (see <see cref="SshGuest"/>), and not at all while a process that the command started lives. That process would die of
/// SIGPIPE when dropbear closes the outputs after the shell.
/// </remarks>
internal static partial class ExecScript
{
    /// <summary>Most bytes of a command string. dropbear refuses more than 9,000, and far longer strings break its connection.</summary>
    public const int MaxCommandBytes = 8000;
    private const string Groups = "/sys/fs/cgroup/exec";
    private const string Busybox = "/usr/lib/pandora/busybox";

    /// <summary>The environment variable that holds a command's tag. The tag finds processes that have left the command's cgroup. It is in
    /// the shell's command line, too. The name does not begin with PANDORA_, because a Pandora server that runs in a sandbox refuses
    /// unknown settings.</summary>
    public const string TagVariable = "__PANDORA_COMMAND";

    /// <summary>
    /// Writes a script that kills every process in the cgroups of some commands, waits until the cgroups are empty, and searches all other
    /// processes for the commands' tags. It prints three lines: <c>empty</c> with the groups that are empty, <c>left</c> with the groups
    /// whose tag a process still has, and <c>end</c>.
    /// </summary>
    /// <param name="commands">Group and tag of each command.</param>
    /// <param name="tries">How often the script checks, for all commands together. It waits 30 ms between two checks.</param>
    public static string Kill(IReadOnlyCollection<(int Group, string Tag)> commands, int tries)
    {
        var groups = string.Join(' ', commands.Select(c => c.Group));
        // A subshell has the same command line as its shell: the script with the tag. This script spells the tags in another way, so that
        // it does not find itself.
        var cases = string.Concat(commands.Select(c => $"*{TagVariable}=''{c.Tag}*) l[{c.Group}]=;; "));
        // Each check kills again, because a shell may join its cgroup after the first kill. A cgroup that no longer exists was empty. A
        // cgroup that cannot be read is not reported as empty.
        return $$"""
            {
            cd {{Groups}} || exit
            for g in {{groups}}; do echo 1 > $g/cgroup.kill; done
            t=0; d=; l=()
            for g in {{groups}}; do
            while p=; [ -d $g ] || p=0; [ "$p" != 0 ]; do
            while read -r k v; do [ $k = populated ] && p=$v; done < $g/cgroup.events
            [ "$p" != 0 ] && [ $((t++)) -lt {{tries}} ] || break
            echo 1 > $g/cgroup.kill; read -rt 0.03
            done
            [ "$p" = 0 ] && d+=" $g"
            done
            echo "empty$d"
            [ -r /proc/$$/environ ] || exit
            for p in /proc/[0-9]*; do
            v=(); w=(); mapfile -d '' -t v < $p/environ; mapfile -d '' -t w < $p/cmdline
            case "${v[*]} ${w[*]}" in {{cases}}esac
            done
            echo "left ${!l[*]}"
            echo end
            } 2>/dev/null
            """;
    }

    /// <summary>Writes a script that makes the next cgroups ahead of need and removes those of finished execs. A cgroup that still has
    /// processes stays.</summary>
    public static string Recycle(int firstNew, int lastNew, IReadOnlyCollection<int> finished)
    {
        var groups = string.Join(' ', finished);
        var uploads = string.Join(' ', finished.Select(g => PathOf(g, "*")));
        return $"cd {Groups} && {{ mkdir {{{firstNew}..{lastNew}}}; rmdir {groups}; rm -f {uploads}; }} 2>/dev/null";
    }

    /// <summary>
    /// Writes a script that kills the commands that an earlier server had running, and prints the highest cgroup number. Background
    /// processes of commands that had ended continue: the shell of such a command has set its cgroup's maximum depth.
    /// </summary>
    public static string Adopt() =>
        $"cd {Groups} && {{ last=0; for g in [0-9]*; do [ $g -gt $last ] && last=$g; "
            + "read -r depth < $g/cgroup.max.depth && [ $depth = max ] && echo 1 > $g/cgroup.kill; done; "
            + "echo $last; } 2>/dev/null";

    /// <summary>Writes the text that runs one command.</summary>
    /// <param name="command">The command.</param>
    /// <param name="group">Number of its cgroup.</param>
    /// <param name="mark">Secret that its markers begin with.</param>
    /// <param name="tag">Value of <see cref="TagVariable"/> in every process that the command starts.</param>
    public static string Create(GuestCommand command, int group, string mark, string tag)
    {
        var path = $"{Groups}/{group}";
        var user = command.User is null or "root" ? null : command.User;
        var home = user is null ? "/root" : $"~{user}";
        var script = new StringBuilder();
        // All on one line, so that line numbers in bash's error messages are those of the code.
        // The shell joins its cgroup first: a process outside of the cgroup is not killed with it.
        script.Append(
            $"{{ echo 0 > {path}/cgroup.procs; }} 2>/dev/null || {{ mkdir -p {path}; echo 0 > {path}/cgroup.procs; }} 2>/dev/null; ");
        script.Append("unset SSH_CLIENT SSH_CONNECTION SSH_PUBKEYINFO; ");
        // Copies of the input and the outputs, for the shell's exchange with the server: the code may redirect the originals.
        script.Append($"exec 250<&0 251>&1 252>&2 < {(string.IsNullOrEmpty(command.Stdin) ? "/dev/null" : PathOf(group, "in"))}; ");
        script.Append(string.IsNullOrEmpty(command.Stdin) ? "" : $"{Busybox} rm -f {PathOf(group, "in")}; ");
        if (user is not null)
        {
            script.Append($"[[ {home} != '{home}' ]] || {Refuse(mark, "user")}; ");
        }

        script.Append($"export LANG=C.UTF-8 HOME={home} USER={user ?? "root"} LOGNAME={user ?? "root"} {TagVariable}={tag}");
        foreach (var (name, value) in command.Env)
        {
            script.Append($" {name}={Quote(value)}");
        }

        script.Append($"; cd -- {(command.Cwd is null ? home : Quote(command.Cwd))} 2>/dev/null || {Refuse(mark, "cwd")}; ");
        script.Append($"trap {Quote(OnExit(path, mark))} EXIT; ");
        script.Append(RunCode(command.Code, user));
        return script.ToString();
    }

    /// <summary>
    /// Writes a script that copies a number of bytes from standard input to a file and exits. It does not wait for an end of file: dropbear
    /// drops the whole connection when an end of file arrives for a channel that has just closed.
    /// </summary>
    public static string Upload(int group, string kind, int bytes) => $"umask 077; exec {Busybox} head -c {bytes} > {PathOf(group, kind)}";

    /// <summary>Writes a script that runs an uploaded script, one that is too long for a command string.</summary>
    public static string RunUploaded(int group, string tag) => $". {PathOf(group, "code")} # {TagVariable}={tag}";

    /// <summary>Quotes a text for bash, without line breaks: bash counts lines as it reads, and would count each line of the code
    /// twice.</summary>
    public static string Quote(string text)
    {
        if (!text.Contains('\n', StringComparison.Ordinal))
        {
            return $"'{text.Replace("'", "'\\''", StringComparison.Ordinal)}'";
        }

        var escaped = text
            .Replace("\\", "\\\\", StringComparison.Ordinal)
            .Replace("'", "\\'", StringComparison.Ordinal)
            .Replace("\n", "\\n", StringComparison.Ordinal);
        return $"$'{escaped}'";
    }

    private static string RunCode(string code, string? user)
    {
        if (user is not null)
        {
            return OwnShell($"runuser -u {user} -- ", code);
        }

        // Code with such a word may remove the exit trap, replace the shell by exec, or signal the shell, and the trap would then report
        // another status. Such code gets a separate shell, which costs a process.
        return NeedsOwnShell().IsMatch(code) ? OwnShell("", code) : $"eval {Quote(code)}";
    }

    // One argument holds at most 128 KiB; longer code is passed through a descriptor.
    private static string OwnShell(string prefix, string code) => Encoding.UTF8.GetByteCount(code) < 100_000
        ? $"{prefix}bash -c {Quote(code)}"
        : $"{prefix}bash -c '__pandora=$(cat <&9); exec 9<&-; eval \"unset __pandora; $__pandora\"' 9<<<{Quote(code)}";

    private static string PathOf(int group, string kind) => $"/var/tmp/.pandora-{group}-{kind}";

    private static string OnExit(string path, string mark)
    {
        var print = $"builtin printf '\\000{mark} 2 %s\\000' \"$__pandora\"";
        // First undo what the code may have set: tracing of these lines, or an exit at the first failure.
        return "{ __pandora=$?; set +eux; } 2>/dev/null; "
            // A second line is a second process. The maximum depth marks the cgroup of a command that has ended, for a server that adopts
            // this guest.
            + $"{{ builtin read -r _ && builtin read -r _ && __pandora+=+ && echo 1 > {path}/cgroup.max.depth; }} 2>/dev/null < "
            + $"{path}/cgroup.procs; "
            + $"{print} >&251; {print} >&252; builtin read -r -u 250; builtin exit ${{__pandora%+}}";
    }

    // Reported before the code runs, so the shell only waits until the server releases it.
    private static string Refuse(string mark, string word) => $"{{ printf '\\000{mark} 1 {word}\\000'; read -r -u 250; exit; }}";

    [GeneratedRegex(@"\b(trap|exec|kill|suspend)\b|\$\$")]
    private static partial Regex NeedsOwnShell();
}
