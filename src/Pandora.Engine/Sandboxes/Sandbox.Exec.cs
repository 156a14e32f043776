using System.Diagnostics;
using Pandora.Engine.Guests;
using Pandora.Engine.Telemetry;

namespace Pandora.Engine.Sandboxes;

// Commands in a sandbox.
public sealed partial class Sandbox
{
    /// <summary>Runs a command. It is activity from its start until its result is disposed of.</summary>
    /// <exception cref="PandoraException">The request is at fault, or the sandbox ended, before or meanwhile.</exception>
    public async Task<Execution> ExecAsync(GuestCommand command, CancellationToken cancellationToken)
    {
        using var span = EngineTracing.Source.StartActivity("sandbox.exec");
        try
        {
            RequestLimits.Check(command);
            _node.MustServe();
            if (IsStalled)
            {
                throw new PandoraException(
                    PandoraError.HostFull,
                    $"sandbox '{Id}' waits for room on the server's disk, and goes on when there is room: nothing was run");
            }

            var lease = Use(isExec: true);
            var start = Stopwatch.GetTimestamp();
            try
            {
                var result = await RunAsync(command, lease, cancellationToken);
                var elapsed = Stopwatch.GetElapsedTime(start);
                lease.EndCommand();
                _node.Journal.Executed(span, this, result, elapsed);
                return new Execution(result, elapsed, lease, _node.Journal.NotDelivered) { HasLostData = HasLostData };
            }
            catch
            {
                lease.Dispose();
                _node.Journal.ExecutionFailed(this, Stopwatch.GetElapsedTime(start));
                throw;
            }
        }
        catch (Exception e)
        {
            _node.Journal.Failed(span, SandboxOperation.Exec, Id, e);
            throw;
        }
    }

    private async Task<GuestResult> RunAsync(GuestCommand command, Lease lease, CancellationToken cancellationToken)
    {
        using var linked = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken, Ending, _node.Detaching);
        try
        {
            // When the guest is gone or going, nothing of it is waited for.
            var result = await MicroVm.Guest.ExecAsync(command, linked.Token).WaitAsync(Ending);
            lease.HasWorked = result.Stopped is null or { HasAnswered: true };
            return result;
        }
        catch (Exception e) when (End is { } end && e is not PandoraException { Error: PandoraError.InvalidRequest })
        {
            throw Ended(Id, end);
        }
        catch (OperationCanceledException e)
        {
            var stop = (e as CommandStoppedException)?.Stop ?? CommandStop.NotStarted;
            lease.HasWorked = stop.HasAnswered;
            cancellationToken.ThrowIfCancellationRequested();
            throw new PandoraException(
                PandoraError.Interrupted,
                $"the server stopped before the command ended; {stop.Words}; it is not repeated, and the sandbox is left to the next "
                    + "server",
                innerException: e)
            { Stop = stop };
        }
        catch (PandoraException e) when (e.Error == PandoraError.InvalidRequest)
        {
            // Its guest said so.
            lease.HasWorked = true;
            throw;
        }
        catch (PandoraException e) when (e.Error == PandoraError.GuestUnreachable)
        {
            lease.HasWorked = e.Stop is { HasAnswered: true };
            // The VMM's death and the connection's may be seen in either order.
            await Task.Delay(TimeSpan.FromMilliseconds(200), _time, Ending).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            throw End is { } end ? Ended(Id, end) : e;
        }
    }
}
