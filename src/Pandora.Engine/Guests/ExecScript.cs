using System.Text;
using System.Text.RegularExpressions;

namespace Pandora.Engine.Guests;

/// <summary>
/// Writes the bash text that runs one command in the guest. The code runs in the very shell that the SSH server started, because every
/// further process costs tens of milliseconds under emulation; around it stand builtins only.
/// </summary>
/// <remarks>
/// The shell joins a cgroup of its own, by which all that it starts can be killed, <c>setsid</c> or not, unless root moves it out. When it
/// exits, its exit trap tells the exit code by a marker on both outputs, and whether it leaves anything behind in that cgroup; then it
/// waits for a line of input before it is gone. So the server knows that a command has ended even if something it started holds the outputs
/// open, and decides when the shell itself goes: not while another channel is being opened (see <see cref="SshGuest"/>), and not at all
/// while something it started lives, which would die of SIGPIPE when dropbear closes the outputs behind the shell.
/// </remarks>
internal static partial class ExecScript
{
    /// <summary>Most bytes of a command string; dropbear refuses over 9,000, and far longer ones break its connection.</summary>
    public const int MaxCommandBytes = 8000;
    private const string Groups = "/sys/fs/cgroup/exec";
    private const string Busybox = "/usr/lib/pandora/busybox";

    /// <summary>The environment variable that holds a command's tag, by which what left its cgroup is found. It stands in the shell's
    /// command line, too. Not PANDORA_…: a Pandora in a sandbox takes no settings that it does not know.</summary>
    public const string TagVariable = "__PANDORA_COMMAND";

    /// <summary>
    /// Kills everything in the cgroups of commands, waits until they are empty, and looks for processes that bear a command's tag
    /// elsewhere. It prints <c>empty</c> and the groups that are, <c>left</c> and the groups of which a process is, and <c>end</c>.
    /// </summary>
    /// <param name="commands">Group and tag of each.</param>
    /// <param name="tries">How often to look, all commands together; 30 ms lie between.</param>
    public static string Kill(IReadOnlyCollection<(int Group, string Tag)> commands, int tries)
    {
        var groups = string.Join(' ', commands.Select(c => c.Group));
        // A subshell has its shell's command line, which is the script; this script's own has the tags in another spelling.
        var cases = string.Concat(commands.Select(c => $"*{TagVariable}=''{c.Tag}*) l[{c.Group}]=;; "));
        // Killed again at each look: a shell may join its cgroup after the first. A cgroup that is no more was empty; one that cannot be
        // read tells nothing.
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

    /// <summary>Makes the next cgroups ahead of need and removes those of finished execs; those with survivors stay.</summary>
    public static string Recycle(int firstNew, int lastNew, IReadOnlyCollection<int> finished)
    {
        var groups = string.Join(' ', finished);
        var uploads = string.Join(' ', finished.Select(g => PathOf(g, "*")));
        return $"cd {Groups} && {{ mkdir {{{firstNew}..{lastNew}}}; rmdir {groups}; rm -f {uploads}; }} 2>/dev/null";
    }

    /// <summary>
    /// Kills the commands that a server which is gone had running, and prints the highest number of a cgroup. What finished commands left
    /// behind lives on: their shells said so by the depth.
    /// </summary>
    public static string Adopt() =>
        $"cd {Groups} && {{ last=0; for g in [0-9]*; do [ $g -gt $last ] && last=$g; "
            + "read -r depth < $g/cgroup.max.depth && [ $depth = max ] && echo 1 > $g/cgroup.kill; done; "
            + "echo $last; } 2>/dev/null";

    /// <summary>The text for one command.</summary>
    /// <param name="command">What to run.</param>
    /// <param name="group">Number of its cgroup.</param>
    /// <param name="mark">What its markers begin with; nobody else knows it.</param>
    /// <param name="tag">What all that it starts bears in its environment.</param>
    public static string Create(GuestCommand command, int group, string mark, string tag)
    {
        var path = $"{Groups}/{group}";
        var user = command.User is null or "root" ? null : command.User;
        var home = user is null ? "/root" : $"~{user}";
        var script = new StringBuilder();
        // One line, so that the code's own line numbers are right.
        // The cgroup first: what is not in it is not killed with it.
        script.Append(
            $"{{ echo 0 > {path}/cgroup.procs; }} 2>/dev/null || {{ mkdir -p {path}; echo 0 > {path}/cgroup.procs; }} 2>/dev/null; ");
        script.Append("unset SSH_CLIENT SSH_CONNECTION SSH_PUBKEYINFO; ");
        // Copies that the code does not redirect: the way back to the server.
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
    /// Takes bytes from standard input into a file and exits when it has them all. It needs no end of file: dropbear drops the whole
    /// connection when one comes for a channel that has just closed.
    /// </summary>
    public static string Upload(int group, string kind, int bytes) => $"umask 077; exec {Busybox} head -c {bytes} > {PathOf(group, kind)}";

    /// <summary>Runs a script that is too long for a command string and was uploaded.</summary>
    public static string RunUploaded(int group, string tag) => $". {PathOf(group, "code")} # {TagVariable}={tag}";

    /// <summary>Quotes for bash, without a line break: bash counts lines as it reads, and would count the code's twice.</summary>
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

        // It may take the exit trap away, exec past it, or signal its shell, whose trap would tell another status: then it gets a shell
        // of its own, which costs a process.
        return AdoptionAnswer().IsMatch(code) ? OwnShell("", code) : $"eval {Quote(code)}";
    }

    // One argument holds no more than 128 KiB; what is longer comes by a descriptor.
    private static string OwnShell(string prefix, string code) => Encoding.UTF8.GetByteCount(code) < 100_000
        ? $"{prefix}bash -c {Quote(code)}"
        : $"{prefix}bash -c '__pandora=$(cat <&9); exec 9<&-; eval \"unset __pandora; $__pandora\"' 9<<<{Quote(code)}";

    private static string PathOf(int group, string kind) => $"/var/tmp/.pandora-{group}-{kind}";

    private static string OnExit(string path, string mark)
    {
        var print = $"builtin printf '\\000{mark} 2 %s\\000' \"$__pandora\"";
        // Whatever the code has set: no tracing of this, and no early end of it.
        return "{ __pandora=$?; set +eux; } 2>/dev/null; "
            // A second line is a second process. The cgroup is marked as one whose command has ended, for a server that takes over.
            + $"{{ builtin read -r _ && builtin read -r _ && __pandora+=+ && echo 1 > {path}/cgroup.max.depth; }} 2>/dev/null < "
            + $"{path}/cgroup.procs; "
            + $"{print} >&251; {print} >&252; builtin read -r -u 250; builtin exit ${{__pandora%+}}";
    }

    // Told before the code could run, so there is nothing to wait for but the server's leave.
    private static string Refuse(string mark, string word) => $"{{ printf '\\000{mark} 1 {word}\\000'; read -r -u 250; exit; }}";

    [GeneratedRegex(@"\b(trap|exec|kill|suspend)\b|\$\$")]
    private static partial Regex AdoptionAnswer();
}
