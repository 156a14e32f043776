using Pandora.Client;
using Pandora.Contracts;

namespace Pandora.Cli.Files;

/// <summary>
/// One copy between this host and a sandbox, with the rules of <c>cp -r</c>: a directory that is there takes the source in under its name;
/// else the target is the copy. A source that ends with <c>/.</c> is what is in the directory.
/// </summary>
/// <param name="files">The sandbox's files.</param>
/// <param name="upload">How to bring files in.</param>
/// <param name="download">How to take files out.</param>
/// <param name="progress">What shows how far it is.</param>
internal sealed class CopyJob(SandboxFiles files, UploadOptions upload, DownloadOptions download, IProgress<TransferProgress> progress)
{
    /// <summary>Copies a local file or directory into the sandbox.</summary>
    /// <exception cref="UsageException">There is no such local file.</exception>
    public async Task<TransferResult> UploadAsync(string source, string target, CancellationToken cancellationToken)
    {
        var isDirectory = Directory.Exists(source);
        if (!isDirectory && !File.Exists(source))
        {
            throw new UsageException($"there is no local file '{source}'");
        }

        if (!isDirectory && source.EndsWith('/'))
        {
            throw new UsageException($"'{source}' is no directory");
        }

        // Of the local path as it is: "." has a name, too.
        var name = source.EndsWith("/.", StringComparison.Ordinal) ? null : CopySide.NameOf(Path.GetFullPath(source));
        return await UploadAsync(source, name, isDirectory, target, cancellationToken);
    }

    /// <summary>Copies a local file or directory into the sandbox under a name that its path need not end with.</summary>
    /// <param name="source">The local file.</param>
    /// <param name="name">Its name in a directory that is there; null for what is in the source.</param>
    /// <param name="isDirectory">Whether it is a directory.</param>
    /// <param name="target">The place in the sandbox.</param>
    /// <param name="cancellationToken">Ends the copy.</param>
    public async Task<TransferResult> UploadAsync(
        string source, string? name, bool isDirectory, string target, CancellationToken cancellationToken)
    {
        var place = await PlaceAsync(target, name, isDirectory, cancellationToken);
        return isDirectory
            ? await files.UploadDirectoryAsync(source, place, upload, progress, cancellationToken)
            : await files.UploadFileAsync(source, place, upload, progress, cancellationToken);
    }

    /// <summary>Copies a file or directory of the sandbox to this host.</summary>
    public async Task<TransferResult> DownloadAsync(string source, string target, CancellationToken cancellationToken)
    {
        var info = await files.GetInfoAsync(source, follow: true, download.User, cancellationToken);
        var isDirectory = info.Type == FileTypes.Directory;
        if (!isDirectory && source.EndsWith('/'))
        {
            throw new UsageException($"'{source}' in the sandbox is no directory");
        }

        var name = source.EndsWith("/.", StringComparison.Ordinal) ? null : CopySide.NameOf(source) ?? CopySide.NameOf(info.Path);
        if (isDirectory)
        {
            var place = Directory.Exists(target) && name is not null ? Path.Combine(target, LocalName(name)) : target;
            return File.Exists(place)
                ? throw new UsageException($"'{place}' is a file, and '{source}' in the sandbox is a directory")
                : await files.DownloadDirectoryAsync(source, place, download, progress, cancellationToken);
        }

        if (!Directory.Exists(target) && target.EndsWith('/'))
        {
            throw new UsageException($"there is no local directory '{target}'");
        }

        var file = Directory.Exists(target) ? Path.Combine(target, LocalName(name ?? info.Name)) : target;
        return Directory.Exists(file)
            ? throw new UsageException($"'{file}' is a directory, and '{source}' in the sandbox is a file")
            : await files.DownloadFileAsync(source, file, download, progress, cancellationToken);
    }

    /// <summary>Writes what comes on a stream into a file of the sandbox.</summary>
    public async Task<TransferResult> UploadAsync(Stream source, string target, CancellationToken cancellationToken)
    {
        if (await files.ExistsAsync(target, upload.User, cancellationToken)
            && (await files.GetInfoAsync(target, follow: true, upload.User, cancellationToken)).Type == FileTypes.Directory)
        {
            throw new UsageException($"'{target}' in the sandbox is a directory; standard input has no name: name the file");
        }

        var counted = new CountedInput(source, progress);
        await using (counted)
        {
            var options = new WriteFileOptions
            {
                User = upload.User,
                Owner = upload.Owner,
                Mode = upload.Mode,
                IsSparse = upload.IsSparse,
            };
            await files.WriteAsync(target, counted, options, cancellationToken);
            return new TransferResult { Files = 1, Bytes = counted.Count };
        }
    }

    /// <summary>Writes a file of the sandbox to a stream.</summary>
    public async Task<TransferResult> DownloadAsync(string source, Action<ReadOnlyMemory<byte>> write, CancellationToken cancellationToken)
    {
        await using var content = await files.OpenReadAsync(
            source, new ReadFileOptions { User = download.User }, cancellationToken);
        var (buffer, bytes) = (new byte[128 * 1024], 0L);
        while (await content.ReadAsync(buffer, cancellationToken) is > 0 and var length)
        {
            write(buffer.AsMemory(0, length));
            bytes += length;
            progress.Report(new TransferProgress(bytes, null, 0, source));
        }

        return new TransferResult { Files = 1, Bytes = bytes };
    }

    // A name of the guest's: it must be one name here, too.
    private static string LocalName(string name) => name is "" or "." or ".." || name.Contains('/') || name.Contains('\0')
        ? throw new UsageException("the file in the sandbox has no name that a local file could have: name the target")
        : name;

    // Where the copy lies in the sandbox.
    private async Task<string> PlaceAsync(string target, string? name, bool isDirectory, CancellationToken cancellationToken)
    {
        string? type = null;
        try
        {
            type = (await files.GetInfoAsync(target, follow: true, upload.User, cancellationToken)).Type;
        }
        catch (PandoraApiException e) when (e.Code == ErrorCodes.FileNotFound.Code)
        {
            // The copy gets this name.
        }

        if (type == FileTypes.Directory)
        {
            return name is null ? target : CopySide.Join(target, name);
        }

        if (type is not null && isDirectory)
        {
            throw new UsageException($"'{target}' in the sandbox is a file, and the source is a directory");
        }

        return type is null && !isDirectory && target.EndsWith('/')
            ? throw new UsageException($"there is no directory '{target}' in the sandbox")
            : target;
    }
}
