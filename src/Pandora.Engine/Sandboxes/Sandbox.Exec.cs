using System.Diagnostics;
using Pandora.Engine.Guests;
using Pandora.Engine.Telemetry;

namespace Pandora.Engine.Sandboxes;

// Commands in a sandbox.
public sealed partial class Sandbox
{
    /// <summary>Runs a command. The sandbox is busy from the command's start until its result is disposed.</summary>
    /// <exception cref="PandoraException">The request is invalid, or the sandbox ended, before or during the command.</exception>
    public async Task<Execution> ExecAsync(GuestCommand command, CancellationToken cancellationToken)
    {
        using var span = EngineTracing.Source.StartActivity("sandbox.exec");
        var line = AuditCommand(AuditOperation.Exec, () => AuditedCommand.Of(command.Code));
        try
        {
            RequestLimits.Check(command, _node.Options);
            _node.MustServe();
            if (IsStalled)
            {
                throw new PandoraException(
                    PandoraError.HostFull,
                    $"sandbox '{Id}' waits for room on the server's disk, and continues when there is room: nothing was run");
            }

            var lease = Use(isExec: true);
            var start = Stopwatch.GetTimestamp();
            try
            {
                var result = await RunAsync(command, lease, cancellationToken);
                var elapsed = Stopwatch.GetElapsedTime(start);
                lease.EndCommand();
                _node.Journal.Executed(span, line, this, result, elapsed);
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
            _node.Journal.Failed(span, line, e);
            throw;
        }
    }

    private async Task<GuestResult> RunAsync(GuestCommand command, Lease lease, CancellationToken cancellationToken)
    {
        using var linked = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken, Ending, _node.Detaching);
        try
        {
            await _whenListed.WaitAsync(linked.Token);
            // A guest that ends or has ended is not waited for.
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
                $"the server stopped before the command ended; {stop.Words}; the server does not repeat it, and the sandbox stays "
                    + "alive for the next server",
                innerException: e)
            { Stop = stop };
        }
        catch (PandoraException e) when (e.Error == PandoraError.InvalidRequest)
        {
            // The guest answered, and refused the request.
            lease.HasWorked = true;
            throw;
        }
        catch (PandoraException e) when (e.Error == PandoraError.GuestUnreachable)
        {
            lease.HasWorked = e.Stop is { HasAnswered: true };
            // The server may see the end of the connection before the end of the VMM.
            await Task.Delay(TimeSpan.FromMilliseconds(200), _time, Ending).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            throw End is { } end ? Ended(Id, end) : e;
        }
    }
}
