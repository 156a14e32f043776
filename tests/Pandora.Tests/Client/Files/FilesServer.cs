using System.Diagnostics;
using System.Formats.Tar;
using System.Globalization;
using System.IO.Compression;
using System.Text;
using System.Text.Json;
using System.Text.Json.Serialization.Metadata;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.Extensions.Logging;
using Pandora.Contracts;

namespace Pandora.Tests.Client.Files;

/// <summary>
/// The routes of files over a temporary directory, on a port of loopback, with GNU tar and System.Formats.Tar for archives. It answers
/// 400 to a parameter that the API does not have, and cuts connections where a test says so. The user's home is the directory's
/// <c>home</c>.
/// </summary>
internal sealed class FilesServer : IAsyncDisposable
{
    private static readonly Dictionary<string, string[]> Known = new()
    {
        ["GET "] = ["path", "user"],
        ["PUT "] = ["path", "user", "mode", "owner", "parents", "sparse", "modified_at"],
        ["DELETE "] = ["path", "user", "recursive"],
        ["GET /info"] = ["path", "user", "follow"],
        ["GET /list"] = ["path", "user", "depth", "limit", "after"],
        ["POST /mkdir"] = [],
        ["POST /move"] = [],
        ["POST /copy"] = [],
        ["GET /tar"] = ["path", "user", "compression"],
        ["PUT /tar"] = ["path", "user", "owner", "sparse", "compression"],
        ["GET /watch"] = ["path", "user", "recursive"],
    };

    private readonly WebApplication _app;
    private readonly DirectoryInfo _root = Directory.CreateTempSubdirectory("pandora-files");

    private FilesServer(WebApplication app) => _app = app;

    public string Url => _app.Urls.Single();

    public string Root => _root.FullName;

    public string Home => Path.Combine(Root, "home");

    /// <summary>Requests, as <c>GET /info?path=…</c>.</summary>
    public List<string> Requests { get; } = [];

    /// <summary>Bodies of JSON.</summary>
    public List<string> Bodies { get; } = [];

    /// <summary>Answers a request in another way: true where it did.</summary>
    public Func<HttpContext, Task<bool>> Instead { get; set; } = _ => Task.FromResult(false);

    /// <summary>Bytes of content after which the next download is cut.</summary>
    public Queue<long> Cuts { get; } = [];

    /// <summary>The archive that is sent for any directory; null packs it.</summary>
    public byte[]? Archive { get; set; }

    public static async Task<FilesServer> StartAsync()
    {
        var builder = WebApplication.CreateSlimBuilder();
        builder.WebHost.UseUrls("http://127.0.0.1:0");
        builder.WebHost.ConfigureKestrel(o => o.Limits.MaxRequestBodySize = null);
        builder.Logging.ClearProviders();
        var app = builder.Build();
        var server = new FilesServer(app);
        Directory.CreateDirectory(server.Home);
        app.Run(server.AnswerAsync);
        await app.StartAsync();
        return server;
    }

    /// <summary>A path of the guest on this host.</summary>
    public string Local(string path) => path.StartsWith('/') ? Path.Combine(Root, path.TrimStart('/')) : Path.Combine(Home, path);

    public async ValueTask DisposeAsync()
    {
        await _app.DisposeAsync();
        _root.Delete(recursive: true);
    }

    public static Task AnswerAsync<T>(HttpContext context, int status, T value, JsonTypeInfo<T> type)
    {
        context.Response.StatusCode = status;
        context.Response.ContentType = status < 400 ? "application/json" : "application/problem+json";
        return context.Response.WriteAsync(JsonSerializer.Serialize(value, type));
    }

    public static Task RefuseAsync(HttpContext context, int status, string code, string detail = "no") =>
        AnswerAsync(context, status, new ApiProblem(Status: status, Detail: detail, Code: code), PandoraJson.Default.ApiProblem);

    private async Task AnswerAsync(HttpContext context)
    {
        var (request, prefix) = (context.Request, "/sandboxes/abc/files");
        if (request.Path == "/health" || !request.Path.Value!.StartsWith(prefix, StringComparison.Ordinal))
        {
            if (!await Instead(context))
            {
                await RefuseAsync(context, 404, "not_found");
            }

            return;
        }

        var route = $"{request.Method} {request.Path.Value[prefix.Length..]}";
        lock (Requests)
        {
            Requests.Add(route + request.QueryString);
        }

        var isJson = request.Method == "POST";
        if (!Known.TryGetValue(route, out var names) || request.Query.Keys.Except(names).Any()
            || (!isJson && !(request.Query["path"] is [{ Length: > 0 }])))
        {
            await RefuseAsync(context, 400, "invalid_request", $"unknown: {route}{request.QueryString}");
            return;
        }

        if (await Instead(context))
        {
            return;
        }

        try
        {
            await (route switch
            {
                "GET " => ReadAsync(context),
                "PUT " => WriteAsync(context),
                "DELETE " => DeleteAsync(context),
                "GET /info" => InfoAsync(context),
                "GET /list" => ListAsync(context),
                "GET /tar" => PackAsync(context),
                "PUT /tar" => UnpackAsync(context),
                _ => JsonAsync(context, route),
            });
        }
        catch (Exception e) when (e is FileNotFoundException or DirectoryNotFoundException)
        {
            await RefuseAsync(context, 404, "file_not_found", "there is no such file");
        }
    }

    private string PathOf(HttpContext context) => Local(context.Request.Query["path"].ToString());

    private FileEntry Entry(string path, bool follow = false)
    {
        FileSystemInfo file = Directory.Exists(path) ? new DirectoryInfo(path) : new FileInfo(path);
        if (follow && file.ResolveLinkTarget(returnFinalTarget: true) is { } target)
        {
            file = target;
        }

        var type = file.LinkTarget is not null ? FileTypes.Link : file is DirectoryInfo ? FileTypes.Directory : FileTypes.File;
        if (!file.Exists && type != FileTypes.Link)
        {
            throw new FileNotFoundException();
        }

        return new FileEntry(
            "/" + Path.GetRelativePath(Root, file.FullName), file.Name, type, file is FileInfo f && f.Exists ? f.Length : 0,
            Convert.ToString((int)file.UnixFileMode, 8).PadLeft(4, '0'), 0, 0, new DateTimeOffset(file.LastWriteTimeUtc),
            EtagOf(file), LinkTarget: file.LinkTarget);
    }

    private static string EtagOf(FileSystemInfo file) => $"\"{file.LastWriteTimeUtc.Ticks:x}\"";

    private async Task ReadAsync(HttpContext context)
    {
        var path = PathOf(context);
        if (Directory.Exists(path))
        {
            await RefuseAsync(context, 409, "file_state", "it is a directory");
            return;
        }

        var bytes = await File.ReadAllBytesAsync(path);
        var (info, headers) = (new FileInfo(path), context.Response.GetTypedHeaders());
        if (context.Request.Headers.IfMatch is [{ } match] && match != EtagOf(info))
        {
            await RefuseAsync(context, 412, "file_precondition", "the file has changed");
            return;
        }

        headers.ETag = new(EtagOf(info));
        headers.LastModified = info.LastWriteTimeUtc;
        context.Response.Headers["X-Pandora-Mode"] = Convert.ToString((int)info.UnixFileMode, 8).PadLeft(4, '0');
        context.Response.ContentType = "application/octet-stream";
        var (begin, end) = (0, bytes.Length);
        if (context.Request.GetTypedHeaders().Range?.Ranges is { } ranges)
        {
            begin = (int)ranges.Single().From!.Value;
            end = (int)Math.Min(bytes.Length, (ranges.Single().To ?? bytes.Length) + 1);
            if (begin >= bytes.Length)
            {
                await RefuseAsync(context, 416, "file_range");
                return;
            }

            context.Response.StatusCode = 206;
            headers.ContentRange = new(begin, end - 1, bytes.Length);
        }

        context.Response.ContentLength = end - begin;
        await SendAsync(context, bytes.AsMemory(begin, end - begin));
    }

    private async Task SendAsync(HttpContext context, ReadOnlyMemory<byte> bytes)
    {
        var cut = Cuts.TryDequeue(out var after) ? (int)Math.Min(after, bytes.Length) : bytes.Length;
        await context.Response.Body.WriteAsync(bytes[..cut]);
        await context.Response.Body.FlushAsync();
        if (cut < bytes.Length)
        {
            // The web server then ends the connection after these bytes. A reset would take away what the client has not read yet.
            throw new IOException("a test cuts the connection here");
        }
    }

    private async Task WriteAsync(HttpContext context)
    {
        var (path, query) = (PathOf(context), context.Request.Query);
        var isNew = !File.Exists(path);
        if ((context.Request.Headers.IfNoneMatch == "*" && !isNew)
            || (context.Request.Headers.IfMatch is [{ } match] && match != "*" && match != EtagOf(new FileInfo(path))))
        {
            await RefuseAsync(context, 412, "file_precondition");
            return;
        }

        if (query["parents"] != "false")
        {
            Directory.CreateDirectory(Path.GetDirectoryName(path)!);
        }

        var temporary = $"{path}.new";
        try
        {
            await using (var file = File.Create(temporary))
            {
                await context.Request.Body.CopyToAsync(file);
            }
        }
        catch (Exception e) when (e is IOException or BadHttpRequestException)
        {
            File.Delete(temporary);
            throw;
        }

        File.SetUnixFileMode(temporary, (UnixFileMode)Convert.ToInt32(query["mode"] is [{ } mode] ? mode : "0644", 8));
        if (query["modified_at"] is [{ } time])
        {
            File.SetLastWriteTimeUtc(
                temporary,
                DateTime.UnixEpoch.AddTicks((long)(decimal.Parse(time, CultureInfo.InvariantCulture) * TimeSpan.TicksPerSecond)));
        }

        File.Move(temporary, path, overwrite: true);
        await AnswerAsync(context, isNew ? 201 : 200, Entry(path), PandoraJson.Default.FileEntry);
    }

    private async Task DeleteAsync(HttpContext context)
    {
        var path = PathOf(context);
        if (Directory.Exists(path))
        {
            if (context.Request.Query["recursive"] != "true" && Directory.EnumerateFileSystemEntries(path).Any())
            {
                await RefuseAsync(context, 409, "file_exists", "the directory is not empty");
                return;
            }

            Directory.Delete(path, recursive: true);
        }
        else
        {
            _ = Entry(path);
            File.Delete(path);
        }

        context.Response.StatusCode = 204;
    }

    private Task InfoAsync(HttpContext context) =>
        AnswerAsync(context, 200, Entry(PathOf(context), context.Request.Query["follow"] == "true"), PandoraJson.Default.FileEntry);

    private async Task ListAsync(HttpContext context)
    {
        var (path, query) = (PathOf(context), context.Request.Query);
        var depth = int.Parse(query["depth"] is [{ } text] ? text : "1", CultureInfo.InvariantCulture);
        var limit = int.Parse(query["limit"] is [{ } most] ? most : "1000", CultureInfo.InvariantCulture);
        var after = query["after"] is [{ } opaque] ? Encoding.UTF8.GetString(Convert.FromHexString(opaque)) : "";
        var all = Directory.EnumerateFileSystemEntries(path, "*", SearchOption.AllDirectories)
            .Select(f => Path.GetRelativePath(path, f)).Where(f => f.Split('/').Length <= depth).Order(StringComparer.Ordinal)
            .Where(f => string.CompareOrdinal(f, after) > 0).ToList();
        var page = all.Take(limit).Select(f => Entry(Path.Combine(path, f))).ToList();
        var next = all.Count > limit ? Convert.ToHexString(Encoding.UTF8.GetBytes(all[limit - 1])) : null;
        await AnswerAsync(context, 200, new FileList(page, next), PandoraJson.Default.FileList);
    }

    private async Task JsonAsync(HttpContext context, string route)
    {
        using var reader = new StreamReader(context.Request.Body);
        var body = await reader.ReadToEndAsync();
        Bodies.Add(body);
        if (route == "POST /mkdir")
        {
            var made = Directory.CreateDirectory(Local(JsonSerializer.Deserialize(body, PandoraJson.Default.MakeDirectoryRequest)!.Path!));
            await AnswerAsync(context, 201, Entry(made.FullName), PandoraJson.Default.FileEntry);
            return;
        }

        var move = JsonSerializer.Deserialize(body, PandoraJson.Default.MoveFileRequest)!;
        if (File.Exists(Local(move.To!)) && move.Replace != true)
        {
            await RefuseAsync(context, 409, "file_exists");
            return;
        }

        _ = Entry(Local(move.From!));
        (route == "POST /move" ? (Action<string, string, bool>)File.Move : File.Copy)(Local(move.From!), Local(move.To!), true);
        await AnswerAsync(context, 200, Entry(Local(move.To!)), PandoraJson.Default.FileEntry);
    }

    private async Task PackAsync(HttpContext context)
    {
        var path = PathOf(context);
        if (!Directory.Exists(path))
        {
            throw new FileNotFoundException();
        }

        using var archive = new MemoryStream();
        if (Archive is not null)
        {
            await archive.WriteAsync(Archive);
        }
        else
        {
            // With the fractions of seconds of the files, which TarFile.CreateFromDirectory left out.
            var names = Directory.EnumerateFileSystemEntries(path).Select(e => $"./{Path.GetFileName(e)}");
            var start = new ProcessStartInfo("tar", ["--format=pax", "-C", path, "-cf", "-", .. names]) { RedirectStandardOutput = true };
            using var tar = Process.Start(start)!;
            await tar.StandardOutput.BaseStream.CopyToAsync(archive);
            await tar.WaitForExitAsync();
        }

        context.Response.ContentType = "application/x-tar";
        if (context.Request.Query["compression"] == "gzip")
        {
            context.Response.ContentType = "application/gzip";
            using var compressed = new MemoryStream();
            using (var gzip = new GZipStream(compressed, CompressionLevel.Fastest, leaveOpen: true))
            {
                gzip.Write(archive.ToArray());
            }

            await SendAsync(context, compressed.ToArray());
            return;
        }

        await SendAsync(context, archive.ToArray());
    }

    private async Task UnpackAsync(HttpContext context)
    {
        Assert.Equal("application/x-tar", context.Request.ContentType);
        Assert.Null(context.Features.Get<IHttpMaxRequestBodySizeFeature>()!.MaxRequestBodySize);
        var path = Directory.CreateDirectory(PathOf(context)).FullName;
        await using var decompressed = new GZipStream(context.Request.Body, CompressionMode.Decompress);
        using var archive = new MemoryStream();
        await (context.Request.Query["compression"] == "gzip" ? decompressed : context.Request.Body).CopyToAsync(archive);
        archive.Position = 0;
        var (entries, bytes) = (0, 0L);
        await using (var reader = new TarReader(archive, leaveOpen: true))
        {
            while (await reader.GetNextEntryAsync() is { } entry)
            {
                (entries, bytes) = (entries + 1, bytes + entry.Length);
            }
        }

        archive.Position = 0;
        await TarFile.ExtractToDirectoryAsync(archive, path, overwriteFiles: true);
        await AnswerAsync(context, 200, new UnpackedFiles(entries, bytes), PandoraJson.Default.UnpackedFiles);
    }
}
