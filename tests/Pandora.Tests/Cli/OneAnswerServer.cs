using System.Net;
using System.Net.Sockets;
using System.Text;

namespace Pandora.Tests.Cli;

/// <summary>Answers each request in the same way, except those that <see cref="AnswerTo"/> has a body for.</summary>
internal sealed class OneAnswerServer : IAsyncDisposable
{
    private readonly TcpListener _listener = new(IPAddress.Loopback, 0);
    private readonly int _status;
    private readonly string _body;
    private readonly List<TcpClient> _silent = []; // held: a client that nothing refers to is closed by the collector
    private readonly Task _serving;

    public OneAnswerServer(int status, string body)
    {
        (_status, _body) = (status, body);
        _listener.Start();
        _serving = ServeAsync();
    }

    public string Url => $"http://{_listener.LocalEndpoint}";

    public Func<string, bool> IsSilent { get; init; } = _ => false;

    /// <summary>The body of a 200 for a request, or null for the usual answer.</summary>
    public Func<string, string?> AnswerTo { get; init; } = _ => null;

    // What the command line asks before it runs a command without a timeout.
    private const string Health = """
        {"status":"ok","version":"1","pool_size":1,"warm_vms":1,"active_sandboxes":0,"max_sandboxes":1,"instance":"x","vmm":"x",
        "isolation":"x","notes":[]}
        """;

    /// <summary>The body for a request that asks for base64, with the usual status.</summary>
    public string? ProblemOfBytes { get; init; }

    /// <summary>Whether each body is shorter than its header says.</summary>
    public bool IsCut { get; init; }

    public string LastRequest { get; private set; } = "";

    public async ValueTask DisposeAsync()
    {
        _listener.Dispose();
        _silent.ForEach(c => c.Dispose());
        await _serving.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
    }

    private async Task ServeAsync()
    {
        while (true)
        {
            var connection = await _listener.AcceptTcpClientAsync();
            var stream = connection.GetStream();
            var request = "";
            var buffer = new byte[65536];
            // The client's bodies come in chunks, which a last one of no length ends.
            while (!request.EndsWith("\r\n\r\n", StringComparison.Ordinal)
                || (request.Contains("chunked", StringComparison.Ordinal)
                && !request.EndsWith("\r\n0\r\n\r\n", StringComparison.Ordinal)))
            {
                var length = await stream.ReadAsync(buffer);
                if (length == 0)
                {
                    break;
                }

                request += Encoding.UTF8.GetString(buffer, 0, length);
            }

            LastRequest = request;
            if (IsSilent(request))
            {
                _silent.Add(connection);
            }
            else
            {
                var own = AnswerTo(request) ?? (request.StartsWith("GET /health ", StringComparison.Ordinal) ? Health : null);
                var isOfBytes = ProblemOfBytes is not null && request.Contains("\"base64\"", StringComparison.Ordinal);
                var (status, body) = own is null ? (_status, isOfBytes ? ProblemOfBytes! : _body) : (200, own);
                var length = Encoding.UTF8.GetByteCount(body) + (IsCut ? 1 : 0);
                await stream.WriteAsync(Encoding.UTF8.GetBytes($"HTTP/1.1 {status} Answer\r\nContent-Type: application/json\r\n"
                    + $"{(status == 204 ? "" : $"Content-Length: {length}\r\n")}Connection: close\r\n\r\n{body}"));
                connection.Dispose();
            }
        }
    }
}
