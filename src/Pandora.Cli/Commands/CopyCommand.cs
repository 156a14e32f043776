using System.CommandLine;
using System.CommandLine.Completions;
using Pandora.Cli.Files;
using Pandora.Client;
using Pandora.Contracts;

namespace Pandora.Cli.Commands;

/// <summary><c>cp</c>: copy files between this host and a sandbox.</summary>
internal static class CopyCommand
{
    private static readonly Option<string> User = new("--user")
    {
        Description = "User in the sandbox whose rights apply (default: root)",
    };

    private static readonly Option<string> Owner = new("--owner")
    {
        Description = "Into a sandbox: who owns the files there, user, user:group or :group (default: the user)",
    };

    private static readonly Option<string> Mode = new("--mode")
    {
        Description = "Into a sandbox, of a single file: its mode in octal, such as 0644 (default: the local file's)",
    };

    private static readonly Option<bool> ExcludeIgnored = new("--exclude-ignored")
    {
        Description = "Into a sandbox: leave out what .gitignore names, and .git",
    };

    private static readonly Option<string[]> Exclude = new("--exclude")
    {
        Description = "Into a sandbox: leave out what this pattern of a .gitignore names; may be repeated",
    };

    private static readonly Option<bool> Quiet = new("--quiet", "-q") { Description = "Show neither progress nor a summary" };

    private static readonly Option<bool> Recursive = new("--recursive", "-r")
    {
        Description = "Does nothing: directories are always copied with what is in them",
    };

    public static Command Create()
    {
        var source = Side("source", "A local file or directory, ID:PATH in a sandbox, or - for standard input");
        var target = Side("target", "Likewise, or - for standard output. A directory that is there takes the source in under its name");
        var command = new Command("cp",
            "Copy a file or a directory into a sandbox or out of it, with modes, times, links and holes. ID:PATH is a file in a sandbox, "
            + "relative to the user's home; ID: is the home. A local name with a colon is written with ./") { source, target };
        foreach (var option in new Option[] { User, Owner, Mode, ExcludeIgnored, Exclude, Quiet, Recursive })
        {
            command.Options.Add(option);
        }

        command.SetAction(async (result, cancellationToken) =>
        {
            var (from, to) = (CopySide.Parse(result.GetRequiredValue(source)), CopySide.Parse(result.GetRequiredValue(target)));
            CheckSides(from, to);
            using var pandora = Shared.Connect(result);
            var isQuiet = result.GetValue(Quiet);
            var progress = new CopyProgress(Console.Error.Write, !isQuiet && !Console.IsErrorRedirected, TimeProvider.System);
            var job = new CopyJob(
                pandora.Connect((from.Sandbox ?? to.Sandbox)!).Files, UploadOptions(result),
                new DownloadOptions { User = result.GetValue(User) }, progress);
            TransferResult copied;
            try
            {
                copied = await CopyAsync(job, from, to, cancellationToken);
            }
            catch (OperationCanceledException) when (cancellationToken.IsCancellationRequested)
            {
                throw new StoppedException($"interrupted; {KeptWords(progress.Last, from, to)}");
            }
            finally
            {
                progress.Clear();
            }

            if (!isQuiet)
            {
                progress.Summary(copied).ToList().ForEach(Console.Error.WriteLine);
            }
        });
        return command;
    }

    private static Argument<string> Side(string name, string description)
    {
        var argument = new Argument<string>(name) { Description = description, HelpName = name };
        argument.Validators.Add(result =>
        {
            foreach (var token in result.Tokens.Where(t => t.Value.Length > 1 && t.Value.StartsWith('-')))
            {
                result.AddError($"there is no option '{token.Value}'");
            }
        });
        argument.CompletionSources.Add(context => Suggestions.SandboxIds(context).Select(i => new CompletionItem($"{i.Label}:")));
        return argument;
    }

    private static void CheckSides(CopySide from, CopySide to)
    {
        if (from.Sandbox is not null && to.Sandbox is not null)
        {
            throw new UsageException("both sides are in a sandbox: copy to this host first, or use cp in the sandbox "
                + "('./pandora exec ID cp …'). A local name with a colon is written with ./");
        }

        if (from.Sandbox is null && to.Sandbox is null)
        {
            throw new UsageException("neither side is in a sandbox: write it as ID:PATH");
        }
    }

    private static UploadOptions UploadOptions(ParseResult result) => new()
    {
        User = result.GetValue(User),
        Owner = result.GetValue(Owner),
        Mode = result.GetValue(Mode) is { } mode ? ModeOf(mode) : null,
        ExcludesIgnored = result.GetValue(ExcludeIgnored),
        Exclude = result.GetValue(Exclude) ?? [],
    };

    private static UnixFileMode ModeOf(string text) =>
        text.Length is > 0 and <= 5 && text.All(c => c is >= '0' and <= '7') && Convert.ToInt32(text, 8) is <= 0xFFF and var mode
            ? (UnixFileMode)mode
            : throw new UsageException($"--mode: '{text}' is not octal, such as 0644");

    private static async Task<TransferResult> CopyAsync(CopyJob job, CopySide from, CopySide to, CancellationToken cancellationToken)
    {
        if (from.IsPipe)
        {
            await using var input = new StandardInput();
            return await job.UploadAsync(input, to.Path, cancellationToken);
        }

        if (to.IsPipe)
        {
            return await job.DownloadAsync(from.Path, bytes => Descriptors.Write(1, bytes.Span), cancellationToken);
        }

        return from.Sandbox is null
            ? await job.UploadAsync(from.Path, to.Path, cancellationToken)
            : await job.DownloadAsync(from.Path, to.Path, cancellationToken);
    }

    // A single file is there as a whole or not at all.
    private static string KeptWords(TransferProgress last, CopySide from, CopySide to)
    {
        var files = last.Files == 1 ? "1 file is" : $"{last.Files} files are";
        return (last.Files, to.Sandbox) switch
        {
            (0, _) when to.IsPipe => $"{Limits.Size(last.Bytes)} of '{from.Path}' were written",
            (0, _) => "no file was copied as a whole, and none that was there was changed",
            (_, null) => $"{files} whole in '{to.Path}'",
            _ => $"up to {last.Files} files may be in '{to.Path}' in the sandbox",
        };
    }
}
