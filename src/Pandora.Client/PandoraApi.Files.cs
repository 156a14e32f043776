using System.Globalization;
using System.Net.Http.Headers;
using System.Text;
using Pandora.Contracts;

namespace Pandora.Client;

/// <summary>The requests under <c>/sandboxes/{id}/files</c>.</summary>
internal sealed partial class PandoraApi
{
    private const string Octets = "application/octet-stream", TarType = "application/x-tar";

    // A body shorter than this is sent with the request at once: the answer to a refusal comes as fast.
    private const int ExpectFrom = 64 * 1024;

    /// <summary>Opens the content of a file.</summary>
    /// <param name="id">Id of the sandbox.</param>
    /// <param name="path">The file.</param>
    /// <param name="user">User whose rights apply.</param>
    /// <param name="offset">First byte.</param>
    /// <param name="last">Last byte; null for the file's.</param>
    /// <param name="etag">The version of the file that it must be; null for any.</param>
    /// <param name="cancellationToken">Ends the wait for the answer's headers.</param>
    public Task<HttpResponseMessage> OpenFileAsync(
        string id, string path, string? user, long offset, long? last, EntityTagHeaderValue? etag, CancellationToken cancellationToken) =>
        SendAsync(HttpMethod.Get, FilesPath(id, "", path, ("user", user)), null, cancellationToken, Octets, request =>
        {
            if (offset > 0 || last is not null)
            {
                request.Headers.Range = new RangeHeaderValue(offset, last);
            }

            if (etag is not null)
            {
                request.Headers.IfMatch.Add(etag);
            }
        });

    /// <summary>Writes a file. A body that has been read in part is not sent again.</summary>
    public async Task<FileDetails> WriteFileAsync(
        string id, string path, WriteFileOptions options, Func<WrittenContent> content, CancellationToken cancellationToken)
    {
        var query = FilesPath(
            id, "", path, ("user", options.User), ("mode", ModeText(options.Mode)), ("owner", options.Owner),
            ("parents", options.MakesParents ? null : "false"), ("sparse", options.IsSparse ? "true" : null),
            ("modified_at", options.ModifiedAt is { } time ? SecondsText(time) : null));
        using var response = await SendContentAsync(query, content, null, options, cancellationToken).ConfigureAwait(false);
        return Known(await ReadJsonAsync(response, PandoraJson.Default.FileEntry, cancellationToken).ConfigureAwait(false));
    }

    /// <summary>Writes the entries of an archive into a directory.</summary>
    public async Task<UnpackedFiles> UnpackFilesAsync(
        string id, string path, UploadOptions options, Func<WrittenContent> content, CancellationToken cancellationToken)
    {
        var query = FilesPath(
            id, "/tar", path, ("user", options.User), ("owner", options.Owner), ("sparse", options.IsSparse ? "true" : null),
            ("compression", options.IsCompressed ? "gzip" : null));
        using var response = await SendContentAsync(query, content, TarType, null, cancellationToken).ConfigureAwait(false);
        return await ReadJsonAsync(response, PandoraJson.Default.UnpackedFiles, cancellationToken).ConfigureAwait(false);
    }

    /// <summary>Opens the archive of a directory.</summary>
    public Task<HttpResponseMessage> PackFilesAsync(
        string id, string path, string? user, bool isCompressed, CancellationToken cancellationToken) =>
        SendAsync(
            HttpMethod.Get, FilesPath(id, "/tar", path, ("user", user), ("compression", isCompressed ? "gzip" : null)), null,
            cancellationToken, isCompressed ? "application/gzip" : TarType);

    public async Task DeleteFileAsync(string id, string path, string? user, bool recursive, CancellationToken cancellationToken) =>
        (await SendAsync(
            HttpMethod.Delete, FilesPath(id, "", path, ("user", user), ("recursive", recursive ? "true" : null)), null, cancellationToken)
            .ConfigureAwait(false))
        .Dispose();

    public async Task<FileDetails> GetFileInfoAsync(
        string id, string path, string? user, bool follow, CancellationToken cancellationToken) =>
        Known(await ReadAsync(
            HttpMethod.Get, FilesPath(id, "/info", path, ("user", user), ("follow", follow ? "true" : null)),
            PandoraJson.Default.FileEntry, cancellationToken).ConfigureAwait(false));

    public async Task<FileList> ListFilesAsync(
        string id, string path, ListFilesOptions options, string? after, CancellationToken cancellationToken)
    {
        var list = await ReadAsync(
            HttpMethod.Get,
            FilesPath(
                id, "/list", path, ("user", options.User), ("depth", options.Depth == 1 ? null : Text(options.Depth)),
                ("limit", options.PageSize is { } limit ? Text(limit) : null), ("after", after)),
            PandoraJson.Default.FileList, cancellationToken).ConfigureAwait(false);
        return list.Entries is null ? throw NotUnderstood("it has no entries") : list;
    }

    public async Task<FileDetails> MakeDirectoryAsync(string id, MakeDirectoryRequest request, CancellationToken cancellationToken) =>
        Known(await ReadAsync(
            HttpMethod.Post, $"{PathOf(id)}/files/mkdir", PandoraJson.Default.FileEntry, cancellationToken,
            () => Content(request, PandoraJson.Default.MakeDirectoryRequest)).ConfigureAwait(false));

    /// <summary>Moves or copies a file.</summary>
    /// <param name="id">Id of the sandbox.</param>
    /// <param name="verb"><c>move</c> or <c>copy</c>.</param>
    /// <param name="request">From where to where.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    public async Task<FileDetails> MoveFileAsync(string id, string verb, MoveFileRequest request, CancellationToken cancellationToken) =>
        Known(await ReadAsync(
            HttpMethod.Post, $"{PathOf(id)}/files/{verb}", PandoraJson.Default.FileEntry, cancellationToken,
            () => Content(request, PandoraJson.Default.MoveFileRequest)).ConfigureAwait(false));

    public Task<HttpResponseMessage> OpenWatchAsync(
        string id, string path, string? user, bool recursive, CancellationToken cancellationToken) =>
        SendAsync(
            HttpMethod.Get, FilesPath(id, "/watch", path, ("user", user), ("recursive", recursive ? "true" : null)), null,
            cancellationToken, EventStream);

    /// <summary>Permission bits as the wire has them: four octal digits.</summary>
    internal static string? ModeText(UnixFileMode? mode) =>
        mode is { } bits ? Convert.ToString((int)bits, 8).PadLeft(4, '0') : null;

    /// <summary>A time as seconds since 1970 with the decimals that it has.</summary>
    internal static string SecondsText(DateTimeOffset time) =>
        ((time.UtcTicks - DateTimeOffset.UnixEpoch.Ticks) / (decimal)TimeSpan.TicksPerSecond)
            .ToString("0.#######", CultureInfo.InvariantCulture);

    // A failure of the body's source is thrown as it is, and not as a broken connection.
    private async Task<HttpResponseMessage> SendContentAsync(
        string path, Func<WrittenContent> content, string? type, WriteFileOptions? options, CancellationToken cancellationToken)
    {
        WrittenContent? last = null;
        try
        {
            return await SendAsync(
                HttpMethod.Put, path,
                () =>
                {
                    last = content();
                    last.Headers.ContentType = new(type ?? Octets);
                    return last;
                },
                cancellationToken, null,
                request =>
                {
                    // The server may refuse before the body comes, and the client then hears why.
                    request.Headers.ExpectContinue = last!.Length is null or > ExpectFrom;
                    AddConditions(request, options);
                },
                () => last!.CanBeginAgain || !last.HasBegun).ConfigureAwait(false);
        }
        catch (UnexpectedAnswerException) when (last?.Failure is not null)
        {
            last.Failure.Throw();
            throw;
        }
    }

    private static void AddConditions(HttpRequestMessage request, WriteFileOptions? options)
    {
        if (options?.IfMatch is { } etag)
        {
            request.Headers.TryAddWithoutValidation("If-Match", etag);
        }

        if (options?.MustNotExist == true)
        {
            request.Headers.TryAddWithoutValidation("If-None-Match", "*");
        }
    }

    internal static FileDetails Known(FileEntry? entry)
    {
        if (string.IsNullOrEmpty(entry?.Path) || string.IsNullOrEmpty(entry.Type))
        {
            throw NotUnderstood("it names no file");
        }

        try
        {
            return FileDetails.From(entry);
        }
        catch (FormatException)
        {
            throw NotUnderstood("the bytes of a path are not base64");
        }
    }

    private static string Text(long number) => number.ToString(CultureInfo.InvariantCulture);

    private static string FilesPath(string id, string route, string path, params ReadOnlySpan<(string Name, string? Value)> query)
    {
        var text = new StringBuilder($"{PathOf(id)}/files{route}?path={Uri.EscapeDataString(path)}");
        foreach (var (name, value) in query)
        {
            if (value is not null)
            {
                text.Append('&').Append(name).Append('=').Append(Uri.EscapeDataString(value));
            }
        }

        return text.ToString();
    }
}
