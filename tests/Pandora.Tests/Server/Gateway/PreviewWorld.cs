using System.Net;
using System.Net.Sockets;
using System.Text;
using System.Text.Json;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.Extensions.Logging;
using Pandora.Engine;
using Pandora.Engine.Projects;
using Pandora.Fakes;
using Pandora.Server.Auth;
using Pandora.Server.Hosting;

namespace Pandora.Tests.Gateway;

/// <summary>A server on loopback with one sandbox, and programs that play those in its guest on real listeners.</summary>
internal sealed class PreviewWorld : IAsyncDisposable
{
    public const string Admin = "an-admin-key-of-the-settings", Metrics = "a-key-that-opens-metrics-alone";
    public const string Domain = "previews.example";
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(20);
    private readonly List<IAsyncDisposable> _programs = [];
    private readonly CancellationTokenSource _stop = new();

    // It keeps no cookie and follows no redirect.
    private readonly SocketsHttpHandler _handler = new() { UseCookies = false, AllowAutoRedirect = false, MaxResponseDrainSize = 0 };
    private readonly HttpClient _http;

    private PreviewWorld(FakeServer api)
    {
        Api = api;
        _http = new HttpClient(_handler, disposeHandler: true) { BaseAddress = api.Http.BaseAddress };
    }

    public FakeServer Api { get; }

    public string Id { get; private set; } = "";

    public FakeGuest Guest => Api.Node.GuestOf(Id);

    public AccessStore Store => new(Api.Node.Options.DataDir);

    /// <summary>Most KiB that a program sent in one answer, and was then cut off.</summary>
    public long Sent { get; private set; }

    public static async Task<PreviewWorld> StartAsync(bool needsKey = false, bool hasDomain = false, EngineOptions? options = null)
    {
        var settings = new ServerOptions
        {
            ApiKeys = needsKey ? Admin : "",
            MetricsKey = needsKey ? Metrics : "",
            PreviewDomain = hasDomain ? Domain : "",
        };
        var world = new PreviewWorld(await FakeServer.StartAsync(settings, options, onLoopback: true));
        if (needsKey)
        {
            world.Api.Http.DefaultRequestHeaders.Add("X-API-Key", Admin);
        }

        world.Id = await world.Api.CreateAsync();
        // Only what a test sends has a key.
        world.Api.Http.DefaultRequestHeaders.Clear();
        return world;
    }

    /// <summary>A sandbox on a server that a test started.</summary>
    public static async Task<PreviewWorld> OnAsync(FakeServer api) => new(api) { Id = await api.CreateAsync() };

    public string HostOf(int port, string? id = null) => $"{port}-{id ?? Id}.localhost:{Api.Http.BaseAddress!.Port}";

    public string DomainHostOf(int port) => $"{port}-{Id}.{Domain}";

    /// <summary>Makes a key of a project.</summary>
    public async Task<string> AddKeyAsync(string project, KeyRole role = KeyRole.User, string? name = null, DateTimeOffset? expires = null)
    {
        var key = Key.Create(isE2b: false);
        var entry = Key.Of(key, name ?? $"key-of-{project}", role).Entry with { Project = project, Expires = expires };
        await Store.ChangeAsync(
            f => f with
            {
                NeedsKey = true,
                Keys = [.. f.Keys, entry],
                Projects = f.FindProject(project) is null ? [.. f.Projects, new Project(project)] : f.Projects,
            },
            TimeProvider.System, CancellationToken.None);
        return key;
    }

    public Task RevokeAsync(string key) => Store.ChangeAsync(
        f => f with { Keys = [.. f.Keys.Where(k => k.Id != Key.Of(key, "", KeyRole.User).Entry.Id)] },
        TimeProvider.System, CancellationToken.None);

    /// <summary>Makes a link, and returns its token.</summary>
    public async Task<string> LinkAsync(int port, string? key = null, string body = "{}")
    {
        var made = await Api.SendAsync(
            HttpMethod.Post, $"/sandboxes/{Id}/ports/{port}/links", body, headers: key is null ? [] : [("X-API-Key", key)]);
        Assert.True(made.Status == 201, $"{made.Status} {made.Body}");
        var url = new Uri(made.Body.GetProperty("url").GetString()!);
        return url.Query["?pandora_link=".Length..];
    }

    /// <summary>Serves a program that tells what it received: method, target, headers by name, and the body's text.</summary>
    public Task EchoAsync(int port) => ServeAsync(port, app => app.Run(async context =>
    {
        using var reader = new StreamReader(context.Request.Body);
        var body = await reader.ReadToEndAsync();
        await context.Response.WriteAsJsonAsync(new
        {
            method = context.Request.Method,
            target = context.Features.Get<IHttpRequestFeature>()!.RawTarget,
            headers = context.Request.Headers.ToDictionary(h => h.Key.ToLowerInvariant(), h => h.Value.ToString()),
            body,
        });
    }));

    /// <summary>Serves a web program behind a port.</summary>
    public async Task ServeAsync(int port, Action<WebApplication> program, HttpProtocols protocols = HttpProtocols.Http1)
    {
        var builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders();
        builder.WebHost.ConfigureKestrel(k =>
        {
            k.Limits.MaxRequestBodySize = null;
            k.Limits.MinRequestBodyDataRate = null;
            k.Limits.MinResponseDataRate = null;
            k.Listen(IPAddress.Loopback, 0, l => l.Protocols = protocols);
        });
        var app = builder.Build();
        program(app);
        await app.StartAsync();
        _programs.Add(app);
        Guest.Ports[port] = new IPEndPoint(IPAddress.Loopback, new Uri(app.Urls.Single()).Port);
    }

    /// <summary>Listens on a port, and lets a test speak on each connection.</summary>
    public void Listen(int port, Func<NetworkStream, Task> speak)
    {
        var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        Guest.Ports[port] = (IPEndPoint)listener.LocalEndpoint;
        _programs.Add(new Stopped(listener));
        _ = AcceptAsync(listener, speak);
    }

    /// <summary>Listens on a port, reads the head of a request, and answers with bytes.</summary>
    public void Answer(int port, string answer, bool closes = true) => Listen(port, async stream =>
    {
        await ReadHeadAsync(stream);
        await stream.WriteAsync(Encoding.Latin1.GetBytes(answer));
        if (!closes)
        {
            await Task.Delay(Timeout.InfiniteTimeSpan, TimeProvider.System, _stop.Token);
        }
    });

    /// <summary>Listens on a port, and answers with a begin and then with the same bytes until they are not wanted.</summary>
    public void Flood(int port, string begin, string piece) => Listen(port, async stream =>
    {
        await ReadHeadAsync(stream);
        await stream.WriteAsync(Encoding.Latin1.GetBytes(begin));
        var bytes = Encoding.Latin1.GetBytes(string.Concat(Enumerable.Repeat(piece, 1024)));
        while (!_stop.IsCancellationRequested)
        {
            await stream.WriteAsync(bytes, _stop.Token);
            Sent += bytes.Length;
        }
    });

    public static async Task<string> ReadHeadAsync(Stream stream)
    {
        var head = new StringBuilder();
        var one = new byte[1];
        while (!head.ToString().EndsWith("\r\n\r\n", StringComparison.Ordinal) && await stream.ReadAsync(one) == 1)
        {
            head.Append((char)one[0]);
        }

        return head.ToString();
    }

    /// <summary>Sends a request to a preview by the client, which adds the headers of a program.</summary>
    public async Task<HttpResponseMessage> SendAsync(
        HttpMethod method, string host, string path = "/", params (string Name, string Value)[] headers)
    {
        using var request = new HttpRequestMessage(method, path);
        request.Headers.Host = host;
        foreach (var (name, value) in headers)
        {
            Assert.True(request.Headers.TryAddWithoutValidation(name, value));
        }

        return await _http.SendAsync(request, HttpCompletionOption.ResponseHeadersRead);
    }

    public Task<HttpResponseMessage> GetAsync(int port, string path = "/", params (string Name, string Value)[] headers) =>
        SendAsync(HttpMethod.Get, HostOf(port), path, headers);

    /// <summary>What <see cref="EchoAsync"/> answered.</summary>
    public static async Task<JsonElement> EchoOf(HttpResponseMessage response)
    {
        Assert.Equal(HttpStatusCode.OK, response.StatusCode);
        return JsonDocument.Parse(await response.Content.ReadAsStringAsync()).RootElement;
    }

    /// <summary>The code of a problem.</summary>
    public static async Task<string> CodeOf(HttpResponseMessage response)
    {
        Assert.Equal("application/problem+json", response.Content.Headers.ContentType?.MediaType);
        var problem = JsonDocument.Parse(await response.Content.ReadAsStringAsync()).RootElement;
        Assert.Equal((int)response.StatusCode, problem.GetProperty("status").GetInt32());
        return problem.GetProperty("code").GetString()!;
    }

    /// <summary>Sends bytes on a connection of their own, and reads until the server closes it.</summary>
    public async Task<string> SendRawAsync(string request)
    {
        using var connection = await ConnectAsync();
        await connection.SendAsync(Encoding.Latin1.GetBytes(request));
        return await ReadToEndAsync(connection);
    }

    public async Task<Socket> ConnectAsync()
    {
        var socket = new Socket(SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
        await socket.ConnectAsync(IPAddress.Loopback, Api.Http.BaseAddress!.Port);
        return socket;
    }

    public static async Task<string> ReadToEndAsync(Socket connection)
    {
        using var limit = new CancellationTokenSource(Limit, TimeProvider.System);
        var (all, buffer) = (new StringBuilder(), new byte[16 * 1024]);
        try
        {
            while (await connection.ReceiveAsync(buffer, limit.Token) is > 0 and var count)
            {
                all.Append(Encoding.Latin1.GetString(buffer, 0, count));
            }
        }
        catch (SocketException)
        {
            // The server cut the connection.
        }

        return all.ToString();
    }

    public async ValueTask DisposeAsync()
    {
        await _stop.CancelAsync();
        _http.Dispose();
        await Api.DisposeAsync();
        foreach (var program in _programs)
        {
            await program.DisposeAsync();
        }

        _stop.Dispose();
    }

    private async Task AcceptAsync(TcpListener listener, Func<NetworkStream, Task> speak)
    {
        try
        {
            while (true)
            {
                _ = SpeakAsync(await listener.AcceptTcpClientAsync(_stop.Token), speak);
            }
        }
        catch (Exception e) when (e is OperationCanceledException or ObjectDisposedException or SocketException)
        {
            // The test is over.
        }
    }

    private static async Task SpeakAsync(TcpClient client, Func<NetworkStream, Task> speak)
    {
        using (client)
        {
            try
            {
                await speak(client.GetStream());
            }
            catch (Exception e) when (e is IOException or OperationCanceledException or ObjectDisposedException)
            {
                // The server closed the connection, or the test is over.
            }
        }
    }

    private sealed class Stopped(TcpListener listener) : IAsyncDisposable
    {
        public ValueTask DisposeAsync()
        {
            listener.Dispose();
            return ValueTask.CompletedTask;
        }
    }
}
