using System.Diagnostics.CodeAnalysis;
using System.Runtime.CompilerServices;
using System.Text;
using Pandora.Contracts;

namespace Pandora.Client;

/// <summary>
/// The files of a sandbox. Paths that do not begin with a slash start at the user's home. Members are virtual, so that a test can replace
/// them. Errors of the guest have a code, such as <c>file_not_found</c>, <c>file_access_denied</c> or <c>disk_full</c>.
/// </summary>
public partial class SandboxFiles
{
    // A write that a broken connection ended is begun again this many times: one that breaks each time must end.
    private const int MaxBegins = 5;
    private readonly PandoraApi? _api;
    private readonly string _sandboxId;

    internal SandboxFiles(PandoraApi api, string sandboxId) => (_api, _sandboxId) = (api, sandboxId);

    /// <summary>For a class of a test that replaces members.</summary>
    protected SandboxFiles() => _sandboxId = "";

    private PandoraApi Api => _api ?? throw new NotSupportedException("these files have no client: replace the member in your test");

    /// <summary>
    /// Opens a file. The stream has a <see cref="Stream.Length"/> when the file has a size; those of <c>/proc</c> have none. After a broken
    /// connection it goes on with the next byte, for <see cref="PandoraClientOptions.MaxReconnectTime"/>, unless the file has changed. It
    /// never ends before the file's end: it throws a <see cref="PandoraClientException"/>.
    /// </summary>
    /// <param name="path">The file. A link is followed.</param>
    /// <param name="options">How to read it; null is the default.</param>
    /// <param name="cancellationToken">Ends the wait for its begin.</param>
    /// <exception cref="PandoraApiException">The guest refused: <c>file_not_found</c>, <c>file_access_denied</c>, <c>file_state</c> for
    /// what is no regular file, <c>file_range</c>.</exception>
    /// <exception cref="SandboxNotFoundException">The sandbox has ended.</exception>
    /// <exception cref="PandoraClientException">The request failed for another reason.</exception>
    public virtual async Task<Stream> OpenReadAsync(
        string path, ReadFileOptions? options = null, CancellationToken cancellationToken = default)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        options ??= new();
        ArgumentOutOfRangeException.ThrowIfNegative(options.Offset, nameof(options));
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(options.Count ?? 1, nameof(options));
        return await FileReadStream.OpenAsync(Api, _sandboxId, path, options, cancellationToken).ConfigureAwait(false);
    }

    /// <summary>Reads a file into memory.</summary>
    /// <inheritdoc cref="OpenReadAsync" path="/param"/>
    /// <inheritdoc cref="OpenReadAsync" path="/exception"/>
    public virtual async Task<byte[]> ReadBytesAsync(
        string path, ReadFileOptions? options = null, CancellationToken cancellationToken = default)
    {
        var stream = await OpenReadAsync(path, options, cancellationToken).ConfigureAwait(false);
        await using (stream.ConfigureAwait(false))
        {
            using var bytes = new MemoryStream();
            await stream.CopyToAsync(bytes, cancellationToken).ConfigureAwait(false);
            return bytes.ToArray();
        }
    }

    /// <summary>Reads a file as UTF-8. Bytes that are not become U+FFFD; a byte order mark is left out.</summary>
    /// <inheritdoc cref="OpenReadAsync" path="/param"/>
    /// <inheritdoc cref="OpenReadAsync" path="/exception"/>
    public virtual async Task<string> ReadTextAsync(
        string path, ReadFileOptions? options = null, CancellationToken cancellationToken = default)
    {
        var bytes = (ReadOnlyMemory<byte>)await ReadBytesAsync(path, options, cancellationToken).ConfigureAwait(false);
        return Encoding.UTF8.GetString((bytes.Span.StartsWith(Encoding.UTF8.Preamble) ? bytes[3..] : bytes).Span);
    }

    /// <summary>
    /// Writes a file: its new content is in its place as a whole, or not at all. After a broken connection the write is begun again when
    /// the stream can seek and no condition is set.
    /// </summary>
    /// <param name="path">The file. A link is followed.</param>
    /// <param name="content">Its content, from the stream's position on. It is not disposed.</param>
    /// <param name="options">How to write it; null is the default.</param>
    /// <param name="cancellationToken">Ends the request; the file is then as it was.</param>
    /// <returns>The file.</returns>
    /// <exception cref="PandoraApiException">The guest refused: <c>file_access_denied</c>, <c>file_state</c>, <c>disk_full</c>,
    /// <c>file_precondition</c>.</exception>
    /// <exception cref="FileTransferException">The stream became shorter meanwhile.</exception>
    /// <exception cref="SandboxNotFoundException">The sandbox has ended.</exception>
    /// <exception cref="PandoraClientException">The request failed for another reason.</exception>
    [SuppressMessage("ApiDesign", "RS0026", Justification = "The overloads differ in a parameter that must be given")]
    public virtual Task<FileDetails> WriteAsync(
        string path, Stream content, WriteFileOptions? options = null, CancellationToken cancellationToken = default)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        ArgumentNullException.ThrowIfNull(content);
        return WriteAsync(path, content, options ?? new(), null, cancellationToken);
    }

    /// <inheritdoc cref="WriteAsync(string, Stream, WriteFileOptions, CancellationToken)"/>
    [SuppressMessage("ApiDesign", "RS0026", Justification = "The overloads differ in a parameter that must be given")]
    public virtual async Task<FileDetails> WriteAsync(
        string path, ReadOnlyMemory<byte> content, WriteFileOptions? options = null, CancellationToken cancellationToken = default)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        options ??= new();
        return await WriteAsync(
            path, options, () => new WrittenContent((output, token) => output.WriteAsync(content, token).AsTask(), content.Length, true),
            cancellationToken).ConfigureAwait(false);
    }

    /// <inheritdoc cref="WriteAsync(string, Stream, WriteFileOptions, CancellationToken)"/>
    [SuppressMessage("ApiDesign", "RS0026", Justification = "The overloads differ in a parameter that must be given")]
    public virtual Task<FileDetails> WriteAsync(
        string path, string content, WriteFileOptions? options = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(content);
        return WriteAsync(path, (ReadOnlyMemory<byte>)Encoding.UTF8.GetBytes(content), options, cancellationToken);
    }

    /// <summary>Lists a directory: each directory before what is in it, names in the order of their bytes.</summary>
    /// <param name="path">The directory.</param>
    /// <param name="options">How to list it; null is the default.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    /// <exception cref="PandoraApiException">The guest refused: <c>file_not_found</c>, <c>file_access_denied</c>,
    /// <c>file_state</c>.</exception>
    /// <exception cref="PandoraClientException">The request failed for another reason.</exception>
    public virtual async IAsyncEnumerable<FileDetails> ListAsync(
        string path, ListFilesOptions? options = null, [EnumeratorCancellation] CancellationToken cancellationToken = default)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        string? after = null;
        do
        {
            var page = await Api.ListFilesAsync(_sandboxId, path, options ?? new(), after, cancellationToken).ConfigureAwait(false);
            foreach (var entry in page.Entries)
            {
                yield return PandoraApi.Known(entry);
            }

            // A page that leads to itself would be read without end.
            after = page.Next is { } next && next == after ? throw PandoraApi.NotUnderstood("a page names itself as the next") : page.Next;
        }
        while (after is not null);
    }

    /// <summary>Shows a file, directory or link.</summary>
    /// <param name="path">The file.</param>
    /// <param name="follow">Whether a link is followed. Default: the link itself is shown.</param>
    /// <param name="user">User whose rights apply; null is root.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    /// <inheritdoc cref="OpenReadAsync" path="/exception"/>
    public virtual Task<FileDetails> GetInfoAsync(
        string path, bool follow = false, string? user = null, CancellationToken cancellationToken = default)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        return Api.GetFileInfoAsync(_sandboxId, path, user, follow, cancellationToken);
    }

    /// <summary>Whether there is such a file, directory or link.</summary>
    /// <param name="path">The file.</param>
    /// <param name="user">User whose rights apply; null is root.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    /// <exception cref="PandoraClientException">The request failed.</exception>
    public virtual async Task<bool> ExistsAsync(string path, string? user = null, CancellationToken cancellationToken = default)
    {
        try
        {
            await GetInfoAsync(path, user: user, cancellationToken: cancellationToken).ConfigureAwait(false);
            return true;
        }
        catch (PandoraApiException e) when (e.Code == ErrorCodes.FileNotFound.Code)
        {
            return false;
        }
    }

    /// <summary>Makes a directory.</summary>
    /// <param name="path">The directory.</param>
    /// <param name="options">How to make it; null is the default.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    /// <returns>The directory.</returns>
    /// <exception cref="PandoraApiException">The guest refused: <c>file_exists</c>, <c>file_access_denied</c>,
    /// <c>disk_full</c>.</exception>
    /// <exception cref="PandoraClientException">The request failed for another reason.</exception>
    public virtual Task<FileDetails> MakeDirectoryAsync(
        string path, MakeDirectoryOptions? options = null, CancellationToken cancellationToken = default)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        options ??= new();
        var request = new MakeDirectoryRequest(
            path, User: options.User, Mode: PandoraApi.ModeText(options.Mode), Owner: options.Owner,
            Parents: options.MakesParents ? null : false);
        return Api.MakeDirectoryAsync(_sandboxId, request, cancellationToken);
    }

    /// <summary>Moves a file or a directory.</summary>
    /// <param name="from">The file or directory.</param>
    /// <param name="to">Where it is then: the whole path, not the directory to put it into.</param>
    /// <param name="options">How to move it; null is the default.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    /// <returns>What is there then.</returns>
    /// <exception cref="PandoraApiException">The guest refused: <c>file_not_found</c>, <c>file_exists</c>, <c>file_access_denied</c>,
    /// <c>disk_full</c>.</exception>
    /// <exception cref="PandoraClientException">The request failed for another reason.</exception>
    public virtual Task<FileDetails> MoveAsync(
        string from, string to, MoveFileOptions? options = null, CancellationToken cancellationToken = default) =>
        MoveAsync("move", from, to, options ?? new(), null, cancellationToken);

    /// <summary>Copies a file, or with <see cref="MoveFileOptions.IsRecursive"/> a directory, with modes, times and links.</summary>
    /// <inheritdoc cref="MoveAsync(string, string, MoveFileOptions, CancellationToken)"/>
    public virtual Task<FileDetails> CopyAsync(
        string from, string to, MoveFileOptions? options = null, CancellationToken cancellationToken = default) =>
        MoveAsync("copy", from, to, options ?? new(), options?.IsRecursive == true ? true : null, cancellationToken);

    /// <summary>Deletes a file, a link or a directory.</summary>
    /// <param name="path">The file.</param>
    /// <param name="recursive">Whether a directory that is not empty is deleted with all that is in it.</param>
    /// <param name="user">User whose rights apply; null is root.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    /// <exception cref="PandoraApiException">The guest refused: <c>file_not_found</c>, <c>file_exists</c> for a directory that is not
    /// empty, <c>file_access_denied</c>.</exception>
    /// <exception cref="PandoraClientException">The request failed for another reason.</exception>
    public virtual Task DeleteAsync(
        string path, bool recursive = false, string? user = null, CancellationToken cancellationToken = default)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        return Api.DeleteFileAsync(_sandboxId, path, user, recursive, cancellationToken);
    }

    private Task<FileDetails> MoveAsync(
        string verb, string from, string to, MoveFileOptions options, bool? recursive, CancellationToken cancellationToken)
    {
        ArgumentException.ThrowIfNullOrEmpty(from);
        ArgumentException.ThrowIfNullOrEmpty(to);
        var request = new MoveFileRequest(
            from, to, User: options.User, Replace: options.Replaces ? true : null, Recursive: recursive,
            Parents: options.MakesParents ? null : false);
        return Api.MoveFileAsync(_sandboxId, verb, request, cancellationToken);
    }

    private Task<FileDetails> WriteAsync(
        string path, Stream content, WriteFileOptions options, Action<long>? sent, CancellationToken cancellationToken)
    {
        var start = content.CanSeek ? content.Position : 0;
        long? length = content.CanSeek ? content.Length - start : null;
        return WriteAsync(path, options, () => new WrittenContent(
            (output, token) =>
            {
                if (content.CanSeek)
                {
                    content.Position = start;
                }

                return SendAsync(content, length, output, sent, token);
            },
            length, content.CanSeek), cancellationToken);
    }

    private async Task<FileDetails> WriteAsync(
        string path, WriteFileOptions options, Func<WrittenContent> content, CancellationToken cancellationToken)
    {
        var reconnection = new Reconnection(Api);
        for (var begins = 1; ; begins++)
        {
            WrittenContent? last = null;
            PandoraClientException cause;
            try
            {
                return await Api.WriteFileAsync(_sandboxId, path, options, () => last = content(), cancellationToken)
                    .ConfigureAwait(false);
            }
            catch (PandoraClientException e) when (
                begins < MaxBegins && last?.CanBeginAgain == true && options is { IfMatch: null, MustNotExist: false })
            {
                cause = e;
            }

            await reconnection.WaitAsync(cause, cancellationToken).ConfigureAwait(false);
        }
    }

    private static async Task SendAsync(
        Stream source, long? length, Stream output, Action<long>? sent, CancellationToken cancellationToken)
    {
        var buffer = new byte[128 * 1024];
        long done = 0;
        sent?.Invoke(0);
        while (done < (length ?? long.MaxValue))
        {
            var most = (int)Math.Min(buffer.Length, (length ?? long.MaxValue) - done);
            var read = await source.ReadAsync(buffer.AsMemory(0, most), cancellationToken).ConfigureAwait(false);
            if (read == 0 && length is not null)
            {
                throw new FileTransferException($"the source became shorter while it was read: it ended after {done} of {length} bytes");
            }

            if (read == 0)
            {
                return;
            }

            await output.WriteAsync(buffer.AsMemory(0, read), cancellationToken).ConfigureAwait(false);
            done += read;
            sent?.Invoke(done);
        }
    }
}
