using System.Net.Sockets;
using System.Text;
using System.Text.RegularExpressions;
using Pandora.Linux;
using Pandora.Vmm.Host;

namespace Pandora.Vmm.Firecracker;

/// <summary>One Firecracker process. It is held by a pidfd because a jailed process is not a child of the server.</summary>
internal sealed partial class FirecrackerVirtualMachine : IVirtualMachine
{
    public const string ConsoleName = "console.log";
    private readonly TaskCompletionSource<string> _exited = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly ProcessHandle _process;
    private readonly GuestChannels _channels;
    private static readonly TimeSpan AgentPoll = TimeSpan.FromMilliseconds(2);
    private readonly FirecrackerJail? _jail;
    private int _killed;

    public FirecrackerVirtualMachine(VirtualMachineHandle handle, GuestChannels channels, ProcessHandle process, FirecrackerJail? jail)
    {
        Handle = handle;
        _process = process;
        _channels = channels;
        _jail = jail;
        _ = WatchAsync();
    }

    public VirtualMachineHandle Handle { get; }

    public Task<string> Exited => _exited.Task;

    public bool IsRunning => !_exited.Task.IsCompleted && !_process.HasExited;

    public FirecrackerJail? Jail => _jail;

    public Task<Stream> ConnectAgentAsync(CancellationToken cancellationToken) => ConnectAsync(_channels.Agent, cancellationToken);

    public bool HasManyConnections => true;

    public Task<Stream> ConnectStreamsAsync(CancellationToken cancellationToken) => _channels.Streams is { } streams
        ? ConnectAsync(streams, cancellationToken)
        : throw new VmmException("the microVM's agent has no streams");

    // Firecracker's docs/vsock.md: it answers 'CONNECT port' with 'OK' and a number. While no program in the guest listens on the port, it
    // closes the connection.
    private async Task<Stream> ConnectAsync(AgentChannel channel, CancellationToken cancellationToken)
    {
        var connect = Encoding.ASCII.GetBytes($"CONNECT {channel.VsockPort}\n");
        var path = _jail?.AgentPath ?? Path.Combine(Handle.Directory, "agent.sock");
        while (true)
        {
            Socket? socket = null;
            try
            {
                socket = await UnixSocket.ConnectAsync(path, cancellationToken);
                var stream = new NetworkStream(socket, ownsSocket: true);
                await stream.WriteAsync(connect, cancellationToken);
                if (await ReadLineAsync(stream, cancellationToken) is { } line && line.StartsWith("OK ", StringComparison.Ordinal))
                {
                    return stream;
                }
            }
            catch (Exception e) when (e is SocketException or IOException)
            {
                // The agent in the guest does not listen yet.
            }
            catch
            {
                socket?.Dispose();
                throw;
            }

            socket?.Dispose();
            if (!File.Exists(path))
            {
                throw new VmmException("the microVM was started without a socket for the agent");
            }

            await Task.Delay(AgentPoll, TimeProvider.System, cancellationToken);
        }
    }

    // Byte by byte, so that no byte of the agent is read.
    private static async Task<string?> ReadLineAsync(Stream stream, CancellationToken cancellationToken)
    {
        var line = new StringBuilder();
        var one = new byte[1];
        while (line.Length < 32 && await stream.ReadAsync(one, cancellationToken) == 1)
        {
            if (one[0] == '\n')
            {
                return line.ToString();
            }

            line.Append((char)one[0]);
        }

        return null;
    }

    public Task<string> ReadConsoleAsync(CancellationToken cancellationToken) =>
        Task.FromResult(BoundedLogs.ReadEnd(Path.Combine(Handle.Directory, ConsoleName)));

    /// <summary>Always false: Firecracker reports an I/O error to the guest.</summary>
    public bool IsStalled => false;

    public Task ContinueAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public async Task KillAsync()
    {
        Interlocked.Exchange(ref _killed, 1);
        _process.Kill();
        await _process.Exited;
    }

    public async ValueTask DisposeAsync()
    {
        await KillAsync();
        _process.Dispose();
        _jail?.Remove();
    }

    /// <summary>
    /// Reads what Firecracker reported: the errors and warnings in its log, then what it and the jailer wrote to standard error.
    /// </summary>
    public static string ReadFaults(string directory, FirecrackerJail? jail)
    {
        var log = BoundedLogs.ReadEnd(
            jail is null ? Path.Combine(directory, FirecrackerJail.LogName) : Path.Combine(jail.Root, FirecrackerJail.LogName));
        var faults = log.Split('\n')
            .Where(l => FaultPattern().IsMatch(l))
            .TakeLast(5)
            .Append(VmmProcess.ReadLog(directory))
            .Select(l => l.Trim());
        return string.Join("; ", faults);
    }

    private async Task WatchAsync()
    {
        await _process.Exited;
        var log = BoundedLogs.ReadEnd(
            _jail is null ? Path.Combine(Handle.Directory, FirecrackerJail.LogName) : Path.Combine(_jail.Root, FirecrackerJail.LogName));
        _exited.TrySetResult(ReasonOfExit(log));
    }

    private string ReasonOfExit(string log)
    {
        if (_killed == 1)
        {
            return "the VMM was killed by Pandora";
        }

        return ExitPattern().Match(log) switch
        {
            { Success: false } => $"the VMM's process ended: {ReadFaults(Handle.Directory, _jail)}",
            var match when match.Groups["code"].Value == "0" => "the guest stopped or rebooted itself, or its kernel panicked",
            var match => $"Firecracker ended with code {match.Groups["code"].Value}: {ReadFaults(Handle.Directory, _jail)}",
        };
    }

    [GeneratedRegex(@"exit_code=(?<code>\d+)")]
    private static partial Regex ExitPattern();

    [GeneratedRegex(@"\b(ERROR|WARN)\b")]
    private static partial Regex FaultPattern();
}
