namespace Pandora.Client;

/// <summary>Counts what a transfer does, and reports it.</summary>
internal sealed class TransferCount(IProgress<TransferProgress>? progress)
{
    private const int MaxSkipped = 1000;
    private readonly List<SkippedFile> _skipped = [];
    private long _files, _directories, _links, _bytes, _skippedCount;

    /// <summary>Bytes of content of the whole transfer; null when they are not known.</summary>
    public long? TotalBytes { get; set; }

    /// <summary>Bytes of content so far.</summary>
    public long Bytes => _bytes;

    /// <summary>What the transfer did so far.</summary>
    public TransferResult Result => new()
    {
        Files = _files,
        Directories = _directories,
        Links = _links,
        Bytes = _bytes,
        SkippedCount = _skippedCount,
        Skipped = [.. _skipped],
    };

    /// <summary>What was kept, in words.</summary>
    public string Words => $"{_files} {(_files == 1 ? "file" : "files")} with {_bytes} bytes";

    public void AddBytes(long count, string path) => Report(_bytes += count, path);

    /// <summary>A file is done.</summary>
    public void AddFile(string? path)
    {
        _files++;
        Report(_bytes, path);
    }

    public void AddDirectory() => _directories++;

    public void AddLink() => _links++;

    public void Skip(string path, string reason)
    {
        if (_skippedCount++ < MaxSkipped)
        {
            _skipped.Add(new SkippedFile(path, reason));
        }
    }

    /// <summary>The bytes of a file that was not kept do not count. A file that is begun again counts anew.</summary>
    public void SetBytes(long count, string path) => Report(_bytes = count, path);

    private void Report(long bytes, string? path) => progress?.Report(new TransferProgress(bytes, TotalBytes, _files, path));
}
