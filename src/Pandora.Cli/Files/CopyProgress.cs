using System.Globalization;
using Pandora.Client;
using Pandora.Contracts;

namespace Pandora.Cli.Files;

/// <summary>Shows how far a copy is on one line of a terminal, and in one line at the end what it did.</summary>
/// <param name="write">Writes to standard error.</param>
/// <param name="isShown">Whether the line is shown: standard error is a terminal, and the user wants it.</param>
/// <param name="time">The clock of the rate.</param>
internal sealed class CopyProgress(Action<string> write, bool isShown, TimeProvider time) : IProgress<TransferProgress>
{
    private static readonly TimeSpan Interval = TimeSpan.FromMilliseconds(200);
    private readonly long _begun = time.GetTimestamp();
    private long _shown;
    private bool _hasLine;

    /// <summary>How far the copy is.</summary>
    public TransferProgress Last { get; private set; } = new(0, null, 0, null);

    /// <inheritdoc/>
    public void Report(TransferProgress value)
    {
        Last = value;
        var now = time.GetTimestamp();
        if (!isShown || time.GetElapsedTime(_shown == 0 ? _begun : _shown, now) < Interval)
        {
            return;
        }

        (_shown, _hasLine) = (now, true);
        var total = value.TotalBytes is { } all ? $" of {Limits.Size(all)}" : "";
        var files = value.Files > 0 ? $" · {value.Files} files" : "";
        // To the line's begin, and what the last line had besides is cleared.
        write($"\r{Limits.Size(value.Bytes)}{total} · {Rate(value.Bytes)}{files}\u001b[K");
    }

    /// <summary>Removes the line.</summary>
    public void Clear()
    {
        if (_hasLine)
        {
            write("\r\u001b[K");
            _hasLine = false;
        }
    }

    /// <summary>What the copy did, and each file that it left out.</summary>
    public IEnumerable<string> Summary(TransferResult result)
    {
        foreach (var skipped in result.Skipped)
        {
            yield return $"pandora: left out '{Printable(skipped.Path)}': {Printable(skipped.Reason)}";
        }

        if (result.SkippedCount > result.Skipped.Count)
        {
            yield return $"pandora: left out {result.SkippedCount - result.Skipped.Count} more";
        }

        var files = result.Files == 1 ? "1 file" : $"{result.Files} files";
        var directories = result.Directories switch { 0 => "", 1 => ", 1 directory", var n => $", {n} directories" };
        var links = result.Links switch { 0 => "", 1 => ", 1 link", var n => $", {n} links" };
        var seconds = time.GetElapsedTime(_begun).TotalSeconds.ToString("0.0", CultureInfo.InvariantCulture);
        yield return $"copied {files}{directories}{links} · {Limits.Size(result.Bytes)} · {seconds} s · {Rate(result.Bytes)}";
    }

    private string Rate(long bytes)
    {
        var seconds = time.GetElapsedTime(_begun).TotalSeconds;
        return $"{Limits.Size(seconds > 0 ? (long)(bytes / seconds) : bytes)}/s";
    }

    // A name from a sandbox must not steer the terminal.
    private static string Printable(string text) => string.Concat(text.Select(c => char.IsControl(c) ? '?' : c));
}
