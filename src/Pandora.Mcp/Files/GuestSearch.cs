using System.Globalization;
using System.Text;
using Pandora.Engine;
using Pandora.Engine.Guests;
using Pandora.Engine.Sandboxes;

namespace Pandora.Mcp.Files;

/// <summary>A search by the guest's own grep or find, whose output is data of the guest.</summary>
/// <param name="sandbox">The sandbox.</param>
/// <param name="root">Absolute path of the directory or file to search.</param>
/// <param name="arguments">What to search for.</param>
/// <param name="limit">Most matches.</param>
internal sealed class GuestSearch(Sandbox sandbox, string root, FileSearchArguments arguments, int limit)
{
    // Of a line, and of all matches: minified files have lines of megabytes.
    private const int MaxText = 300, MaxChars = 60_000;

    // What one line may have at most before its match is given up.
    private const int MaxLine = 1024 * 1024;
    private const int ErrorCode = 2, NotRunnable = 126, NotFound = 127;
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(40);
    private readonly List<FoundText> _found = [];
    private int _chars;

    /// <summary>Searches.</summary>
    /// <returns>The matches, and whether there may be more.</returns>
    /// <exception cref="PandoraException">The pattern is wrong, or the search could not be made.</exception>
    public async Task<(IReadOnlyList<FoundText> Matches, bool HasMore)> RunAsync(CancellationToken stop)
    {
        await using var process = await StartAsync(CommandOf(), stop);
        var (isFull, isSkipping) = (false, false);
        using var pending = new MemoryStream();
        while (!isFull && await process.ReadAsync(stop) is { } output)
        {
            if (output.Stream != OutputStream.Stdout)
            {
                continue;
            }

            pending.Write(output.Bytes.Span);
            isFull = !TakeRecords(pending);
            if (pending.Length > MaxLine)
            {
                isSkipping = true;
                pending.SetLength(0);
            }
        }

        if (process.End is not { } end)
        {
            await process.KillAsync();
            return (_found, true);
        }

        if (end is { Stopped: null, ExitCode: ErrorCode } && _found.Count == 0 && arguments.Pattern is not null)
        {
            await CheckPatternAsync(stop);
        }

        if (end.ExitCode is NotRunnable or NotFound && end.Stopped is null)
        {
            throw NoProgram();
        }

        // Some file or directory could not be read.
        var isPartial = end.ExitCode >= (arguments.Pattern is null ? 1 : ErrorCode);
        return (_found, isSkipping || isPartial);
    }

    private string[] CommandOf()
    {
        if (arguments.Pattern is not { } pattern)
        {
            var name = arguments.IgnoreCase == true ? "-iname" : "-name";
            return ["find", root, "-name", ".git", "-prune", "-o", name, arguments.Name!, "-print0"];
        }

        return
        [
            "grep", "-rnIHZ", "--exclude-dir=.git", arguments.Literal == true ? "-F" : "-E",
            .. arguments.IgnoreCase == true ? ["-i"] : Array.Empty<string>(),
            .. arguments.Name is { } only ? [$"--include={only}"] : Array.Empty<string>(),
            "-e", pattern, "--", root,
        ];
    }

    private async Task<SandboxProcess> StartAsync(IReadOnlyList<string> command, CancellationToken stop)
    {
        try
        {
            return await sandbox.OpenProcessAsync(
                new ProcessSpec { Arguments = command, WaitsForReader = true, IsReadOnce = true, TimeLimit = Limit }, stop);
        }
        catch (PandoraException e) when (e.Field is "args" or "code")
        {
            throw NoProgram();
        }
    }

    private PandoraException NoProgram() => new(
        PandoraError.FileFailed, $"the sandbox has no working {CommandOf()[0]}: search with what it has, by run");

    // Takes the whole records, and leaves the rest. False when no more is wanted.
    private bool TakeRecords(MemoryStream pending)
    {
        var all = pending.GetBuffer().AsSpan(0, (int)pending.Length);
        var at = 0;
        while (TakeRecord(all[at..]) is var length && length > 0)
        {
            at += length;
            if (_found.Count == limit || _chars > MaxChars)
            {
                return false;
            }
        }

        var rest = all[at..].ToArray();
        pending.SetLength(0);
        pending.Write(rest);
        return true;
    }

    // Of find: PATH NUL. Of grep: PATH NUL LINE ':' TEXT LF.
    private int TakeRecord(ReadOnlySpan<byte> bytes)
    {
        var name = bytes.IndexOf((byte)0);
        if (name < 0)
        {
            return 0;
        }

        var path = Encoding.UTF8.GetString(bytes[..name]);
        if (arguments.Pattern is null)
        {
            Add(new FoundText(path, null, null));
            return name + 1;
        }

        var rest = bytes[(name + 1)..];
        var end = rest.IndexOf((byte)'\n');
        if (end < 0)
        {
            return 0;
        }

        var line = Encoding.UTF8.GetString(rest[..end]);
        var colon = line.IndexOf(':', StringComparison.Ordinal);
        if (colon > 0 && long.TryParse(line.AsSpan(0, colon), NumberStyles.None, CultureInfo.InvariantCulture, out var number))
        {
            var text = line[(colon + 1)..];
            Add(new FoundText(path, number, text.Length > MaxText ? $"{text[..MaxText]}…" : text));
        }

        return name + 1 + end + 1;
    }

    private void Add(FoundText match)
    {
        _found.Add(match);
        _chars += match.Path.Length + (match.Text?.Length ?? 0);
    }

    // Some file that grep could not read is no fault of the pattern.
    private async Task CheckPatternAsync(CancellationToken stop)
    {
        string[] command = ["grep", arguments.Literal == true ? "-F" : "-E", "-q", "-e", arguments.Pattern!, "/dev/null"];
        await using var process = await StartAsync(command, stop);
        while (await process.ReadAsync(stop) is not null)
        {
            // What it says is in the guest's words.
        }

        if (process.End!.ExitCode == ErrorCode)
        {
            throw PandoraException.Invalid("pattern", "is no extended regular expression: set literal for plain text");
        }
    }
}
