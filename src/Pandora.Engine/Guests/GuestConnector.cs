using System.Diagnostics.CodeAnalysis;
using Microsoft.Extensions.Logging;
using Pandora.Engine.Guests.Agent;
using Pandora.Engine.Guests.Ssh;

namespace Pandora.Engine.Guests;

/// <summary>
/// Connects to guests: by the device of the agent, or by SSH, which then carries the same agent. SSH is used (1) when the operator wants
/// it, (2) when the guest has no device for its agent, (3) for the guests of an older Pandora, whose agent runs no processes.
/// </summary>
[SuppressMessage("Reliability", "CA2000", Justification = "The guest that is returned disposes of the connection.")]
internal sealed class GuestConnector(EngineOptions options, ClientKey key, TimeProvider time, ILoggerFactory loggers)
{
    // The commands that a server before the agent had running: the shell of a command that had ended set its cgroup's depth.
    private const string EndCommandsOfOldServer = "cd /sys/fs/cgroup/exec && for g in [0-9]*; do "
        + "read -r depth < $g/cgroup.max.depth && [ \"$depth\" = max ] && echo 1 > $g/cgroup.kill; done; true";

    private static readonly TimeSpan DeviceWait = TimeSpan.FromSeconds(1), ProbePause = TimeSpan.FromMilliseconds(250);
    private readonly ILogger _logger = loggers.CreateLogger<AgentGuest>();

    /// <summary>Waits until a guest is up, and connects to it.</summary>
    public async Task<IGuest> ConnectAsync(GuestLogin login, CancellationToken cancellationToken)
    {
        var server = new SshLogin(login.Address, key, login.HostKey, time);
        if ((login.Way ?? options.Exec) == ExecWay.Ssh || login.AgentVersion == 0)
        {
            return await BySshAsync(login, server, cancellationToken);
        }

        AgentConnection connection = login.Machine.HasManyConnections
            ? new VsockConnection(login.Machine, login.Secret, time)
            : new ChannelConnection(await login.Machine.ConnectStreamsAsync(cancellationToken), login.Id, time, _logger);
        try
        {
            if (await HasDeviceAsync(login, connection, server, cancellationToken))
            {
                return new AgentGuest(connection, ExecWay.Agent, time);
            }
        }
        catch
        {
            await connection.DisposeAsync();
            throw;
        }

        await connection.DisposeAsync();
        return await BySshAsync(login, server, cancellationToken);
    }

    // A guest without the device starts an SSH server instead.
    private async Task<bool> HasDeviceAsync(
        GuestLogin login, AgentConnection connection, SshLogin server, CancellationToken cancellationToken)
    {
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        var answering = connection.WaitAsync(stop.Token);
        var wait = login.MayLackDevice ? DeviceWait : Timeout.InfiniteTimeSpan;
        while (await Task.WhenAny(answering, Task.Delay(wait, time, cancellationToken)) != answering)
        {
            cancellationToken.ThrowIfCancellationRequested();
            if (await server.IsUpAsync(cancellationToken))
            {
                await stop.CancelAsync();
                await answering.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
                return false;
            }

            wait = ProbePause;
        }

        await answering;
        return true;
    }

    private async Task<IGuest> BySshAsync(GuestLogin login, SshLogin server, CancellationToken cancellationToken)
    {
        var connection = new SshConnection(server, login.AgentVersion == 0 ? options.AgentPath : null, login.Id, time, _logger);
        try
        {
            await connection.WaitAsync(cancellationToken);
            var guest = new AgentGuest(connection, ExecWay.Ssh, time);
            if (login is { IsAdopted: true, AgentVersion: 0 })
            {
                await guest.ExecAsync(new GuestCommand { Code = EndCommandsOfOldServer }, cancellationToken);
            }

            return guest;
        }
        catch
        {
            await connection.DisposeAsync();
            throw;
        }
    }
}
