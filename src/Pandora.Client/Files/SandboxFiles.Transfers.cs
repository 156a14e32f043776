using System.IO.Compression;

namespace Pandora.Client;

public partial class SandboxFiles
{
    // Others may write and delete the file meanwhile: a program's log can be copied.
    private static FileStreamOptions Shared => new() { BufferSize = 0, Share = FileShare.ReadWrite | FileShare.Delete };

    /// <summary>
    /// Brings a local file into the sandbox, with its mode and the time of its last change. The file is there as a whole, or not at all.
    /// </summary>
    /// <param name="localPath">The local file. A link is followed. One that is no regular file, such as a FIFO, is read to its end.</param>
    /// <param name="path">The file in the sandbox: the whole path.</param>
    /// <param name="options">How to bring it; null is the default.</param>
    /// <param name="progress">Is called as the transfer goes on.</param>
    /// <param name="cancellationToken">Ends the request; the file in the sandbox is then as it was.</param>
    /// <exception cref="IOException">The local file cannot be read.</exception>
    /// <inheritdoc cref="WriteAsync(string, Stream, WriteFileOptions, CancellationToken)" path="/exception"/>
    public virtual async Task<TransferResult> UploadFileAsync(
        string localPath, string path, UploadOptions? options = null, IProgress<TransferProgress>? progress = null,
        CancellationToken cancellationToken = default)
    {
        ArgumentException.ThrowIfNullOrEmpty(localPath);
        ArgumentException.ThrowIfNullOrEmpty(path);
        options ??= new();
        var source = new FileStream(localPath, Shared);
        await using (source.ConfigureAwait(false))
        {
            var target = TargetOf(localPath);
            var isRegular = source.CanSeek && LocalTree.IsRegular(target);
            var count = new TransferCount(progress) { TotalBytes = isRegular ? source.Length : null };
            var write = new WriteFileOptions
            {
                User = options.User,
                Owner = options.Owner,
                Mode = options.Mode ?? (isRegular ? (UnixFileMode)LocalTree.ModeOf(target) : null),
                ModifiedAt = isRegular ? new DateTimeOffset(target.LastWriteTimeUtc) : null,
                IsSparse = options.IsSparse,
            };
            await WriteAsync(path, source, write, done => count.SetBytes(done, localPath), cancellationToken).ConfigureAwait(false);
            count.AddFile(null);
            return count.Result;
        }
    }

    /// <summary>
    /// Takes a file out of the sandbox, with its mode (setuid, setgid and sticky removed), the time of its last change, and its blocks of
    /// zeros as holes. The local file is there as a whole, or not at all.
    /// </summary>
    /// <param name="path">The file in the sandbox. A link is followed.</param>
    /// <param name="localPath">The local file: the whole path. A link is followed. What is no regular file, such as <c>/dev/null</c>, is
    /// written to and not replaced.</param>
    /// <param name="options">How to take it; null is the default.</param>
    /// <param name="progress">Is called as the transfer goes on.</param>
    /// <param name="cancellationToken">Ends the request; the local file is then as it was.</param>
    /// <exception cref="FileTransferException">The file is longer than <see cref="DownloadOptions.MaxBytes"/>.</exception>
    /// <exception cref="IOException">The local file cannot be written.</exception>
    /// <inheritdoc cref="OpenReadAsync" path="/exception"/>
    public virtual async Task<TransferResult> DownloadFileAsync(
        string path, string localPath, DownloadOptions? options = null, IProgress<TransferProgress>? progress = null,
        CancellationToken cancellationToken = default)
    {
        ArgumentException.ThrowIfNullOrEmpty(localPath);
        options ??= new();
        var info = await GetInfoAsync(path, follow: true, options.User, cancellationToken).ConfigureAwait(false);
        var source = await OpenReadAsync(path, new ReadFileOptions { User = options.User }, cancellationToken).ConfigureAwait(false);
        await using (source.ConfigureAwait(false))
        {
            var remote = source as FileReadStream;
            var count = new TransferCount(progress) { TotalBytes = remote?.HasLength == true ? remote.Length : null };
            var place = TargetOf(localPath).FullName;
            var isSpecial = File.Exists(place) && !LocalTree.IsRegular(new FileInfo(place));
            var writer = isSpecial ? LocalFileWriter.Open(place) : LocalFileWriter.Create(place);
            await using (writer.ConfigureAwait(false))
            {
                var buffer = new byte[128 * 1024];
                while (await source.ReadAsync(buffer, cancellationToken).ConfigureAwait(false) is > 0 and var length)
                {
                    if (length > options.MaxBytes - count.Bytes)
                    {
                        throw new FileTransferException($"the file has more than the {options.MaxBytes} bytes that are taken");
                    }

                    await writer.WriteAsync(buffer.AsMemory(0, length), cancellationToken).ConfigureAwait(false);
                    count.AddBytes(length, path);
                }

                await writer.CompleteAsync((int?)remote?.Mode, info.ModifiedAt).ConfigureAwait(false);
            }

            count.AddFile(null);
            return count.Result;
        }
    }

    /// <summary>
    /// Brings what is in a local directory into a directory of the sandbox, which is made when it is missing: files with modes, times and
    /// holes, directories, symbolic links as they are. Links are not followed. Other files are left out and reported. All goes in one
    /// request; what was written before a failure stays.
    /// </summary>
    /// <param name="localPath">The local directory.</param>
    /// <param name="path">The directory in the sandbox.</param>
    /// <param name="options">How to bring it; null is the default.</param>
    /// <param name="progress">Is called as the transfer goes on.</param>
    /// <param name="cancellationToken">Ends the request.</param>
    /// <returns>What was sent.</returns>
    /// <exception cref="FileTransferException">A local file became shorter while it was read, or cannot be read.</exception>
    /// <exception cref="DirectoryNotFoundException">There is no such local directory.</exception>
    /// <exception cref="PandoraApiException">The guest refused: <c>file_access_denied</c>, <c>file_state</c>, <c>disk_full</c>.</exception>
    /// <exception cref="SandboxNotFoundException">The sandbox has ended.</exception>
    /// <exception cref="PandoraClientException">The request failed for another reason.</exception>
    public virtual async Task<TransferResult> UploadDirectoryAsync(
        string localPath, string path, UploadOptions? options = null, IProgress<TransferProgress>? progress = null,
        CancellationToken cancellationToken = default)
    {
        ArgumentException.ThrowIfNullOrEmpty(localPath);
        ArgumentException.ThrowIfNullOrEmpty(path);
        options ??= new();
        var count = new TransferCount(progress);
        var tree = new LocalTree(localPath, options);
        // One walk for the total, so that progress has an end.
        count.TotalBytes = await Task.Run(
            () => tree.Walk().TakeWhile(_ => !cancellationToken.IsCancellationRequested).Sum(f => f.Header?.Size ?? 0), cancellationToken)
            .ConfigureAwait(false);
        cancellationToken.ThrowIfCancellationRequested();
        await Api.UnpackFilesAsync(
            _sandboxId, path, options,
            () => new WrittenContent((output, token) => SendTreeAsync(tree, options, count, output, token), null, canBeginAgain: false),
            cancellationToken).ConfigureAwait(false);
        return count.Result;
    }

    /// <summary>
    /// Takes what is in a directory of the sandbox into a local directory, which is made when it is missing: files with modes, times and
    /// holes, directories, symbolic links. What a sandbox sends is not trusted: nothing is written outside of the local directory, no link
    /// below it is followed, and links that lead out of it, devices and FIFOs are left out and reported. Setuid, setgid and sticky bits are
    /// removed. What was written before a failure stays.
    /// </summary>
    /// <param name="path">The directory in the sandbox.</param>
    /// <param name="localPath">The local directory.</param>
    /// <param name="options">How to take it; null is the default.</param>
    /// <param name="progress">Is called as the transfer goes on.</param>
    /// <param name="cancellationToken">Ends the request.</param>
    /// <returns>What was written.</returns>
    /// <exception cref="FileTransferException">The connection broke before the end, the sandbox sent what is not taken or more than the
    /// options allow, or the local directory cannot be written; <see cref="FileTransferException.Kept"/> has what was written
    /// before.</exception>
    /// <inheritdoc cref="OpenReadAsync" path="/exception"/>
    public virtual async Task<TransferResult> DownloadDirectoryAsync(
        string path, string localPath, DownloadOptions? options = null, IProgress<TransferProgress>? progress = null,
        CancellationToken cancellationToken = default)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        ArgumentException.ThrowIfNullOrEmpty(localPath);
        options ??= new();
        ArgumentOutOfRangeException.ThrowIfNegative(options.MaxBytes, nameof(options));
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(options.MaxEntries, nameof(options));
        var count = new TransferCount(progress);
        using var response = await Api.PackFilesAsync(_sandboxId, path, options.User, options.IsCompressed, cancellationToken)
            .ConfigureAwait(false);
        try
        {
            var root = Directory.CreateDirectory(localPath).FullName;
            var body = await response.Content.ReadAsStreamAsync(cancellationToken).ConfigureAwait(false);
            var decompressed = new GZipStream(body, CompressionMode.Decompress);
            await using (decompressed.ConfigureAwait(false))
            {
                var archive = new TarInput(options.IsCompressed ? decompressed : body);
                await new LocalExtraction(root, options, count).RunAsync(archive, cancellationToken).ConfigureAwait(false);
            }

            return count.Result;
        }
        catch (Exception e) when (e is IOException or HttpRequestException or InvalidDataException or UnauthorizedAccessException)
        {
            throw new FileTransferException($"{e.Message}; {count.Words} were kept in '{localPath}'", e) { Kept = count.Result };
        }
    }

    private static async Task SendTreeAsync(
        LocalTree tree, UploadOptions options, TransferCount count, Stream output, CancellationToken cancellationToken)
    {
        if (!options.IsCompressed)
        {
            await SendTreeAsync(tree, count, output, cancellationToken).ConfigureAwait(false);
            return;
        }

        var compressed = new GZipStream(output, CompressionLevel.Fastest, leaveOpen: true);
        await using (compressed.ConfigureAwait(false))
        {
            await SendTreeAsync(tree, count, compressed, cancellationToken).ConfigureAwait(false);
        }
    }

    private static async Task SendTreeAsync(LocalTree tree, TransferCount count, Stream output, CancellationToken cancellationToken)
    {
        var archive = new TarOutput(output);
        foreach (var file in tree.Walk())
        {
            cancellationToken.ThrowIfCancellationRequested();
            await SendAsync(tree, file, archive, count, cancellationToken).ConfigureAwait(false);
        }

        await archive.EndAsync(cancellationToken).ConfigureAwait(false);
    }

    private static async Task SendAsync(
        LocalTree tree, LocalFile file, TarOutput archive, TransferCount count, CancellationToken cancellationToken)
    {
        if (file.Header is not { } header)
        {
            count.Skip(file.Path, file.Reason!);
            return;
        }

        if (header.Type != TarEntry.File)
        {
            await archive.WriteHeaderAsync(header, cancellationToken).ConfigureAwait(false);
            (header.Type == TarEntry.Directory ? (Action)count.AddDirectory : count.AddLink)();
            return;
        }

        using var content = Open(tree, file, count);
        if (content is null)
        {
            return;
        }

        var size = content.Length;
        await archive.WriteHeaderAsync(header with { Size = size }, cancellationToken).ConfigureAwait(false);
        var written = await archive.WriteContentAsync(content, size, n => count.AddBytes(n, file.Path), cancellationToken)
            .ConfigureAwait(false);
        if (written < size)
        {
            throw new FileTransferException($"'{file.Path}' became shorter while it was read: it ended after {written} of {size} bytes");
        }

        count.AddFile(file.Path);
    }

    // The file itself, or what a link leads to.
    private static FileInfo TargetOf(string path)
    {
        var file = new FileInfo(path);
        return file.LinkTarget is null ? file : (FileInfo)file.ResolveLinkTarget(returnFinalTarget: true)!;
    }

    private static FileStream? Open(LocalTree tree, LocalFile file, TransferCount count)
    {
        try
        {
            return new FileStream(tree.FullPath(file.Path), Shared);
        }
        catch (FileNotFoundException)
        {
            count.Skip(file.Path, "it vanished");
            return null;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new FileTransferException($"'{file.Path}' cannot be read: {e.Message}", e);
        }
    }
}
