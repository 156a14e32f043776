using Microsoft.Extensions.Logging.Abstractions;
using Microsoft.Extensions.Time.Testing;
using Pandora.Engine.Recovery;
using Pandora.Engine;
using Pandora.Engine.MicroVms;
using Pandora.Fakes;

namespace Pandora.Tests.MicroVms;

/// <summary>Records of microVMs: damaged files, and files that cannot be written.</summary>
public sealed class RecordTests : IDisposable
{
    private readonly string _directory = Directory.CreateTempSubdirectory("pandora-test-").FullName;

    private string Path => System.IO.Path.Combine(_directory, MicroVmRecord.FileName);

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    [Fact]
    public void A_changed_record_is_written_again_and_the_change_is_reported()
    {
        var file = new MicroVmFile(_directory, Record());
        file.Write(r => r);
        Assert.Null(file.Repair());

        var written = File.ReadAllText(Path);
        File.WriteAllText(Path, written.Replace("\"slot\":3", "\"slot\":4", StringComparison.Ordinal));
        Assert.Equal("it was changed", file.Repair());
        File.WriteAllText(Path, "{");
        Assert.Equal("its record is damaged", file.Repair());
        File.Delete(Path);
        Assert.Equal("it has no record yet", file.Repair());
        Assert.Equal(written, File.ReadAllText(Path));
    }

    [Fact]
    public void A_record_that_cannot_be_written_is_not_reported_as_written()
    {
        var live = new LiveMicroVms();
        live.Set("abc", 3, new MicroVmFile(_directory, Record()));
        // A directory in the place of the temporary file makes the write fail.
        Directory.CreateDirectory(Path + ".new");
        var (repaired, failed) = (new List<string>(), new List<string>());
        live.Repair((id, _) => repaired.Add(id), (id, _) => failed.Add(id));
        Assert.Empty(repaired);
        Assert.Equal(["abc"], failed);
    }

    [Fact]
    public async Task A_microVM_that_cannot_be_adopted_ends_alone()
    {
        await using var node = new FakeNode(new EngineOptions { PoolSize = 2 });
        async Task<MicroVm> ClaimAsync() => (await node.Pool.ClaimAsync("a", TimeSpan.FromSeconds(1), default)).MicroVm;
        var microVms = new[] { await ClaimAsync(), await ClaimAsync() }.ToDictionary(m => m.Id);
        var (adopted, lost) = (new List<string>(), new List<(string Id, string Reason)>());
        await new MicroVmRecovery(node.Metrics, new FakeTimeProvider(), NullLogger.Instance).RunAsync(
            [.. microVms.Keys.Select(id => new FoundRecord($"/run/{id}", Record() with { Id = id }, null))],
            (record, _) => Task.FromResult(new Adoption(microVms[record.Id], null, microVms[record.Id].Teardown)),
            microVm =>
            {
                if (adopted.Count > 0)
                {
                    throw new IOException("no room");
                }

                adopted.Add(microVm.Id);
            },
            (id, reason) => lost.Add((id, reason)), default);
        var one = Assert.Single(lost);
        Assert.Equal("it could not be adopted: no room", one.Reason);
        Assert.False(microVms[one.Id].IsAlive);
        Assert.True(microVms[Assert.Single(adopted)].IsAlive);
    }

    private MicroVmRecord Record() => new()
    {
        Id = System.IO.Path.GetFileName(_directory),
        Instance = "tests",
        BootId = MicroVmRecord.HostBootId,
        Template = "default",
        Slot = 3,
        Address = "",
        Network = "",
        Uid = 0,
        HostKey = "",
        Resources = [],
    };
}
