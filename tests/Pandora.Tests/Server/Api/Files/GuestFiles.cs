using System.Net.Http.Headers;
using System.Text;
using System.Text.Json;
using Microsoft.Extensions.Logging.Abstractions;
using Pandora.Engine.Guests.Agent;
using Pandora.Fakes;

namespace Pandora.Tests.Api.Files;

/// <summary>A server with one sandbox, whose files are those of a directory of this machine: the agent's real code serves them.</summary>
internal sealed class GuestFiles : IAsyncDisposable
{
    private readonly ChannelConnection _connection = new(AgentFiles.Connect(), "test", TimeProvider.System, NullLogger.Instance);

    private readonly bool _ownsServer;

    private GuestFiles(FakeServer server, string id, bool ownsServer) => (Server, Id, _ownsServer) = (server, id, ownsServer);

    public FakeServer Server { get; }

    public string Id { get; }

    /// <summary>The directory.</summary>
    public string Root { get; } = Directory.CreateTempSubdirectory("pandora-files-").FullName;

    /// <param name="server">The server; null for a new one on loopback, which is disposed of with this.</param>
    public static async Task<GuestFiles> StartAsync(FakeServer? server = null)
    {
        var ownsServer = server is null;
        server ??= await FakeServer.StartAsync(onLoopback: true);
        var files = new GuestFiles(server, await server.CreateAsync(), ownsServer);
        server.Node.GuestOf(files.Id).Files = files._connection;
        return files;
    }

    /// <summary>The path of a file of the directory on this machine.</summary>
    public string this[string name] => Path.Combine(Root, name);

    /// <summary>The address of a route, with the path of a file of the directory.</summary>
    public string Address(string name, string route = "", string more = "") =>
        $"/sandboxes/{Id}/files{route}?path={Uri.EscapeDataString(Root)}/{name}&user={AgentFiles.OwnUser}{more}";

    public Task<HttpResponseMessage> GetAsync(string name, params (string Name, string Value)[] headers) =>
        SendAsync(HttpMethod.Get, Address(name), null, headers);

    public Task<HttpResponseMessage> PutAsync(string name, string text, string more = "", params (string Name, string Value)[] headers) =>
        SendAsync(HttpMethod.Put, Address(name, more: more), new ByteArrayContent(Encoding.UTF8.GetBytes(text)), headers);

    public async Task<HttpResponseMessage> SendAsync(
        HttpMethod method, string address, HttpContent? content = null, params (string Name, string Value)[] headers)
    {
        using var request = new HttpRequestMessage(method, address) { Content = content };
        foreach (var (name, value) in headers)
        {
            request.Headers.TryAddWithoutValidation(name, value);
        }

        return await Server.Http.SendAsync(request);
    }

    public static async Task<JsonElement> JsonOf(HttpResponseMessage answer) =>
        JsonDocument.Parse(await answer.Content.ReadAsStringAsync()).RootElement;

    public static async Task<string?> CodeOf(HttpResponseMessage answer) => (await JsonOf(answer)).GetProperty("code").GetString();

    public static string? HeaderOf(HttpResponseMessage answer, string name) =>
        ((IEnumerable<HttpHeaders>)[answer.Headers, answer.Content.Headers])
            .Select(h => h.TryGetValues(name, out var values) ? string.Join(", ", values) : null).FirstOrDefault(v => v is not null);

    public async ValueTask DisposeAsync()
    {
        if (_ownsServer)
        {
            await Server.DisposeAsync();
        }

        await _connection.DisposeAsync();
        // .NET cannot delete a name that is not UTF-8.
        using var deleting = System.Diagnostics.Process.Start("rm", ["-rf", "--", Root]);
        await deleting.WaitForExitAsync();
    }
}
