using System.Runtime.InteropServices;
using System.Text;
using Pandora.Agent.Protocol.Processes;

namespace Pandora.Agent.Processes;

/// <summary>Starts processes by <c>Native/spawn.c</c>.</summary>
internal static unsafe partial class Spawner
{
    private const uint SoftFiles = 65_536, HardFiles = 1_048_576;
    private const int StepUser = 3, StepDirectory = 4, StepProgram = 5;

    /// <summary>Starts a process.</summary>
    /// <returns>Its pid, and a descriptor of it.</returns>
    /// <exception cref="RequestFailedException">It could not be started; nothing of it is left.</exception>
    public static (int Pid, int Pidfd) Start(in SpawnSpec spec)
    {
        using var memory = new NativeText();
        var groups = spec.Account.Groups;
        fixed (uint* groupIds = groups)
        {
            var native = new NativeSpawn
            {
                Programs = memory.List(spec.Programs),
                Arguments = memory.List(spec.Arguments),
                Environment = memory.List(spec.Environment),
                Directory = memory.Text(spec.Directory),
                OtherDirectory = spec.OtherDirectory is null ? null : memory.Text(spec.OtherDirectory),
                Groups = groupIds,
                GroupCount = (uint)groups.Length,
                User = spec.Account.User,
                Group = spec.Account.Group,
                Cgroup = spec.Cgroup,
                Input = spec.Input,
                Output = spec.Output,
                Error = spec.Error,
                IsTerminal = spec.IsTerminal ? 1 : 0,
                IsUrgent = Program.HasPrecedence ? 1 : 0,
                SoftFiles = SoftFiles,
                HardFiles = HardFiles,
            };
            var pid = pandora_spawn(&native);
            return pid > 0 ? (pid, native.Pidfd) : throw Failure(spec, native.Step, -pid);
        }
    }

    private static RequestFailedException Failure(in SpawnSpec spec, int step, int error) => step switch
    {
        StepUser => new(FailureKind.User, $"'{spec.Account.Name}' cannot be set: {NameOf(error)}"),
        StepDirectory => new(FailureKind.Directory, $"'{spec.Directory}' cannot be entered by {spec.Account.Name}: {NameOf(error)}"),
        StepProgram => new(FailureKind.Program, $"'{spec.Arguments[0]}' cannot be executed: {NameOf(error)}"),
        _ => new(FailureKind.Guest, $"the guest cannot start a process: {NameOf(error)}"),
    };

    // errno(3), for those that a user of the guest can bring about.
    private static string NameOf(int error) => error switch
    {
        1 => "not permitted",
        2 => "no such file or directory",
        7 => "the arguments and the environment are too long",
        8 => "the program has an unknown format",
        11 => "no more processes are allowed",
        12 => "no memory is left",
        13 => "permission denied",
        20 => "not a directory",
        22 => "the kernel does not know the request (it must be 5.7 or newer)",
        23 or 24 => "too many files are open",
        26 => "the program is being written",
        28 => "no space is left",
        36 => "the name is too long",
        38 => "the kernel does not know the request (it must be 5.7 or newer)",
        40 => "too many links",
        _ => $"error {error}",
    };

    [LibraryImport("pandora_native")]
    private static partial int pandora_spawn(NativeSpawn* spawn);

    // The same as in spawn.c.
    [StructLayout(LayoutKind.Sequential)]
    private struct NativeSpawn
    {
        public byte** Programs, Arguments, Environment;
        public byte* Directory, OtherDirectory;
        public uint* Groups;
        public uint GroupCount, User, Group;
        public int Cgroup, Input, Output, Error, IsTerminal, IsUrgent;
        public uint SoftFiles, HardFiles;
        public int Pidfd, Step;
    }

    private sealed class NativeText : IDisposable
    {
        private readonly List<nint> _blocks = [];

        public byte* Text(string text)
        {
            var bytes = Encoding.UTF8.GetBytes(text);
            var block = (byte*)Allocate(bytes.Length + 1);
            bytes.CopyTo(new Span<byte>(block, bytes.Length));
            block[bytes.Length] = 0;
            return block;
        }

        public byte** List(IReadOnlyList<string> texts)
        {
            var block = (byte**)Allocate((texts.Count + 1) * sizeof(byte*));
            for (var i = 0; i < texts.Count; i++)
            {
                block[i] = Text(texts[i]);
            }

            block[texts.Count] = null;
            return block;
        }

        public void Dispose() => _blocks.ForEach(b => NativeMemory.Free((void*)b));

        private void* Allocate(int size)
        {
            var block = NativeMemory.Alloc((nuint)size);
            _blocks.Add((nint)block);
            return block;
        }
    }
}

/// <summary>What a process is started with.</summary>
internal readonly record struct SpawnSpec
{
    /// <summary>Paths of the program, to be tried in this order.</summary>
    public required IReadOnlyList<string> Programs { get; init; }

    public required IReadOnlyList<string> Arguments { get; init; }

    public required IReadOnlyList<string> Environment { get; init; }

    public required string Directory { get; init; }

    /// <summary>Tried when <see cref="Directory"/> cannot be entered; null for none.</summary>
    public required string? OtherDirectory { get; init; }

    public required Account Account { get; init; }

    /// <summary>Descriptor of its cgroup; -1 for none.</summary>
    public required int Cgroup { get; init; }

    public required int Input { get; init; }

    public required int Output { get; init; }

    public required int Error { get; init; }

    public required bool IsTerminal { get; init; }
}
