using System.Diagnostics.CodeAnalysis;
using System.Net.Sockets;
using Microsoft.Extensions.Logging;
using Pandora.Engine.Guests.Agent;
using Renci.SshNet.Common;

namespace Pandora.Engine.Guests.Ssh;

/// <summary>
/// The way to an agent that SSH starts and carries: for guests without a device for it, and where the operator wants SSH. The agent ends
/// with its SSH session, and kills what it ran. The next command opens another session.
/// </summary>
/// <param name="login">Logs in to the guest.</param>
/// <param name="agentToUpload">The agent's program, for a guest that has none or an old one; null when it has one.</param>
/// <param name="id">The microVM's id, for the log.</param>
/// <param name="time">Clock of the pauses.</param>
/// <param name="logger">Receives what goes wrong.</param>
internal sealed partial class SshConnection(SshLogin login, string? agentToUpload, string id, TimeProvider time, ILogger logger)
    : AgentConnection
{
    private const string Installed = "/usr/lib/pandora/agent", Uploaded = "/run/.pandora-agent";
    private readonly SemaphoreSlim _connecting = new(1, 1);
    private ChannelConnection? _channel;
    private volatile bool _isDisposed;

    /// <inheritdoc/>
    public override async Task WaitAsync(CancellationToken cancellationToken)
    {
        var channel = await ChannelAsync(cancellationToken);
        await channel.WaitAsync(cancellationToken);
    }

    /// <inheritdoc/>
    public override async Task<AgentStream> OpenAsync(ReadOnlyMemory<byte> request, CancellationToken cancellationToken)
    {
        var channel = await ChannelAsync(cancellationToken);
        return await channel.OpenAsync(request, cancellationToken);
    }

    /// <summary>Closes the session, with the agent that it runs: no connection survives a snapshot.</summary>
    public override async Task QuiesceAsync(CancellationToken cancellationToken)
    {
        if (_channel is { } channel)
        {
            await (channel.IsBroken ? Task.CompletedTask : channel.QuiesceAsync(cancellationToken));
            await channel.DisposeAsync();
        }
    }

    /// <inheritdoc/>
    public override async ValueTask DisposeAsync()
    {
        _isDisposed = true;
        if (_channel is { } channel)
        {
            await channel.DisposeAsync();
        }
    }

    private async Task<ChannelConnection> ChannelAsync(CancellationToken cancellationToken)
    {
        if (_channel is { IsBroken: false } current)
        {
            return current;
        }

        await _connecting.WaitAsync(cancellationToken);
        try
        {
            ObjectDisposedException.ThrowIf(_isDisposed, this);
            if (_channel is { IsBroken: false } made)
            {
                return made;
            }

            if (_channel is { } broken)
            {
                LogAgain(id);
                await broken.DisposeAsync();
            }

            _channel = await ConnectAsync(cancellationToken);
            if (_isDisposed)
            {
                // Disposed of meanwhile, when there was no channel yet.
                await _channel.DisposeAsync();
            }

            return _channel;
        }
        catch (Exception e) when (e is SocketException or SshException or ObjectDisposedException)
        {
            throw new IOException($"the guest's SSH server does not answer ({e.Message})", e);
        }
        finally
        {
            _connecting.Release();
        }
    }

    [SuppressMessage("Reliability", "CA2000", Justification = "The channel disposes of the session.")]
    private async Task<ChannelConnection> ConnectAsync(CancellationToken cancellationToken)
    {
        var client = await login.ConnectAsync(cancellationToken);
        try
        {
            if (agentToUpload is not null)
            {
                await UploadAsync(client, cancellationToken);
            }

            var session = new SshSession(client, $"exec {(agentToUpload is null ? Installed : Uploaded)} --stdio");
            return new ChannelConnection(session, id, time, logger);
        }
        catch
        {
            _ = SshSession.OnThread(client.Dispose);
            throw;
        }
    }

    private async Task UploadAsync(Renci.SshNet.SshClient client, CancellationToken cancellationToken)
    {
        var program = await File.ReadAllBytesAsync(agentToUpload!, cancellationToken);
        // The reader takes an exact number of bytes: dropbear drops the connection over an end of file that comes too late. The rename
        // does not change a program that runs.
        using var command = client.CreateCommand(
            $"umask 077; head -c {program.Length} > {Uploaded}.new && chmod 700 {Uploaded}.new && mv {Uploaded}.new {Uploaded}");
        await SshSession.OnThread(() =>
        {
            var running = command.ExecuteAsync(cancellationToken);
            using var input = command.CreateInputStream();
            input.Write(program);
            input.Flush();
            running.GetAwaiter().GetResult();
        }).WaitAsync(cancellationToken);
        if (command.ExitStatus != 0)
        {
            throw new IOException("the guest did not take the agent's program (is its memory or disk full?)");
        }
    }

    [LoggerMessage(Level = LogLevel.Warning, Message = "The SSH session to microVM {Id} has ended, and another is opened")]
    private partial void LogAgain(string id);
}
